"""Gradual magnitude pruning (Zhu and Gupta 2017): the density falls by a cubic while training."""

import torch

from prune_torch import density
from prune_torch.methods.base import Method, cubic, magnitudes


class Gradual(Method):
    """Smallest weights go, a few every few steps; what is zero may not come back."""

    share = 0.7
    every = 10  # steps between two cuts

    def start(self, optimizer):
        self.now = {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}
        self.all = sum(p.numel() for p in self.cell.parameters.values())
        self.handle = density.hold(optimizer, self.cell.parameters, self.now)

    def after_step(self, step):
        if (step + 1) % self.every == 0:
            # The last cut comes early enough for the search to end trained.
            count = cubic(step, 0.8 * self.cell.steps, self.all, self.cell.count)
            self._cut(round(count))

    def finish(self):
        self.handle.remove()

    def masks(self, count):
        self._cut(count)
        return self.now

    def _cut(self, count):
        scores = magnitudes(self.cell.parameters)
        scores = {n: torch.where(self.now[n], score, -1.0) for n, score in scores.items()}
        for name, mask in density.top_masks(scores, count).items():
            self.now[name].copy_(mask)
        density.apply(self.cell.parameters, self.now)
