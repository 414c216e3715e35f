"""Two controls: random masks, and no masks, the dense network trained for as many steps."""

import torch

from prune_torch.density import top_masks
from prune_torch.methods.base import Method


class Random(Method):
    """Every set of weights is equally likely."""

    def masks(self, count):
        generator = self.cell.generator()
        scores = {
            name: torch.rand(p.shape, generator=generator, dtype=torch.float64).to(p.device)
            for name, p in self.cell.parameters.items()
        }
        return top_masks(scores, count)


class Unpruned(Method):
    """All weights stay: what the steps of a cell make of the dense network."""

    chooses = True
    inexact = "weights that are zero by themselves"

    def masks(self, count):
        return {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}
