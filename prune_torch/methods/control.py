"""Random masks: the control that every method has to beat."""

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
