"""Iterative magnitude pruning with rewinding (Frankle and Carbin 2019; Frankle et al. 2020)."""

import torch

from groundfloor.pytorch import masking
from prune_torch.methods.base import Method, shrink
from prune_torch.protocol import finetune

ROUND = 0.2  # of what is left goes in each round


class Lottery(Method):
    """Train, remove a fifth of what is left, go back to the dense network's weights; repeat.

    Each round is the whole search once more, batches and rates too; the rounds beyond the first are
    extra passes.
    """

    share = 0.3

    def start(self, optimizer):
        self.state = {n: v.clone() for n, v in self.cell.model.state_dict().items()}
        whole = {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}
        self.now = self.allowed(whole)
        self.handle = masking.hold(optimizer, self.cell.parameters, self.now)

    def finish(self):
        self.handle.remove()

    def fewer(self, kept, count):
        """How many weights stay of `kept`, after a round of training; `kept` itself ends it."""
        return max(count, round((1 - ROUND) * kept))

    def masks(self, count):
        kept = sum(self.sizes().values())
        while True:
            fewer = self.fewer(kept, count)
            shrink(self.now, self.cell.parameters, fewer)
            self.cell.model.load_state_dict(self.state)
            masking.apply(self.cell.parameters, self.now)
            if fewer in (kept, count):
                return self.now
            kept = fewer
            self._train()

    def _train(self):
        cell, optimizer = self.cell, self.optimizer()
        handle = masking.hold(optimizer, cell.parameters, self.now)
        self.passes += cell.steps
        finetune.run(cell.task, cell.model, optimizer, cell.steps, seed=cell.seed, whole=cell.whole)
        handle.remove()
