"""Gradual magnitude pruning (Zhu and Gupta 2017): the density falls by a cubic while training."""

import torch

from optim_torch.dessilbi import structure
from prune_torch.methods.base import Method, cubic, shrink


class Gradual(Method):
    """Smallest weights go, a few every few steps; what is zero may not come back."""

    share = 0.7
    every = 10  # steps between two cuts

    def start(self, optimizer):
        self.now = {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}
        self.first = sum(self.sizes().values())
        self.handle = structure.hold(optimizer, self.cell.parameters, self.now)

    def after_step(self, step):
        if (step + 1) % self.every == 0:
            # The last cut comes early enough for the search to end trained.
            count = cubic(step, 0.8 * self.cell.steps, self.first, self.cell.count)
            shrink(self.now, self.cell.parameters, round(count))

    def finish(self):
        self.handle.remove()

    def masks(self, count):
        shrink(self.now, self.cell.parameters, count)
        return self.now
