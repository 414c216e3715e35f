"""Gradual magnitude pruning (Zhu and Gupta 2017): the density falls by a cubic while training."""

import torch

from groundfloor.pytorch import masking
from prune_torch.methods.base import Method, shrink


class Gradual(Method):
    """Smallest weights go, a few every few steps; what is zero may not come back."""

    share = 0.7
    every = 10  # steps between two cuts

    def start(self, optimizer):
        self.now = {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}
        self.handle = masking.hold(optimizer, self.cell.parameters, self.now)

    def after_step(self, step):
        if (step + 1) % self.every == 0:
            shrink(self.now, self.cell.parameters, round(self.wanted(step)))

    def finish(self):
        self.handle.remove()

    def masks(self, count):
        shrink(self.now, self.cell.parameters, count)
        return self.now
