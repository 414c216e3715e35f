"""SNIP (Lee et al. 2019): keep the weights whose removal would change the loss most, to first
order."""

from groundfloor.pytorch import masking
from prune_torch.methods.base import Method


class SNIP(Method):
    """|gradient * weight| on a few training batches."""

    def masks(self, count):
        gradients = self.gradients()
        scores = {n: (gradients[n] * p.detach()).abs() for n, p in self.cell.parameters.items()}
        return masking.top_masks(scores, count)
