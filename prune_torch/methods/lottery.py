"""Iterative magnitude pruning with rewinding (Frankle and Carbin 2019; Frankle et al. 2020)."""

import math

import torch

from prune_torch import density
from prune_torch.methods.base import Method, magnitudes

ROUND = 0.2  # of what is left goes in each round


class Lottery(Method):
    """Train, remove a fifth of what is left, go back to the dense network's weights; repeat.

    Each round trains for the whole search; the rounds beyond the first are extra passes.
    """

    share = 0.3

    def start(self, optimizer):
        self.state = {n: v.clone() for n, v in self.cell.model.state_dict().items()}
        self.now = {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}
        self.handle = density.hold(optimizer, self.cell.parameters, self.now)

    def finish(self):
        self.handle.remove()

    def masks(self, count):
        total = sum(p.numel() for p in self.cell.parameters.values())
        rounds = max(1, math.ceil(math.log(max(count, 1) / total) / math.log(1 - ROUND)))
        for number in range(1, rounds + 1):
            if number > 1:
                self._train(number)
            left = max(count, round(total * (1 - ROUND) ** number))
            scores = magnitudes(self.cell.parameters)
            scores = {n: torch.where(self.now[n], score, -1.0) for n, score in scores.items()}
            for name, mask in density.top_masks(scores, left).items():
                self.now[name].copy_(mask)
            self.cell.model.load_state_dict(self.state)
            density.apply(self.cell.parameters, self.now)
        return self.now

    def _train(self, number):
        from prune_torch import finetune

        optimizer = self.optimizer()
        handle = density.hold(optimizer, self.cell.parameters, self.now)
        cell = self.cell
        finetune.run(
            *(cell.task, cell.model, optimizer, cell.steps),
            seed=cell.seed,
            first=number * cell.steps,
        )
        handle.remove()
        self.passes += cell.steps
