"""Sparse regularisation by the l1 norm, with the proximal map beside AdamW."""

import torch

from prune_torch.methods.base import Method, magnitudes, smallest
from prune_torch.protocol import finetune


class ProximalL1(Method):
    """After every step each weight moves towards zero by (learning rate) * λ.

    λ is such that, without a gradient, just the weights that are too many would end at zero: the
    (n - count)-th smallest |w| over the sum of the search's learning rates. Nothing is tuned.
    """

    share = 0.5
    debias = True

    def start(self, optimizer):
        cell = self.cell
        self.dense = magnitudes(cell.parameters)
        surplus = sum(p.numel() for p in cell.parameters.values()) - cell.count
        way = finetune.total_rate(cell.steps, cell.whole, cell.rate)
        self.penalty = smallest(cell.parameters, surplus) / way
        self.optimizer_used = optimizer

    @torch.no_grad()
    def after_step(self, step):
        threshold = self.optimizer_used.param_groups[0]["lr"] * self.penalty
        for parameter in self.cell.parameters.values():
            parameter.copy_(torch.nn.functional.softshrink(parameter, threshold))

    def masks(self, count):
        """The largest weights; among those that the penalty took to zero the largest before."""
        most = 1 + max(size.max() for size in self.dense.values())
        scores = magnitudes(self.cell.parameters)
        scores = {n: s.where(s > 0, self.dense[n] - most) for n, s in scores.items()}
        return self.top_masks(scores, count)
