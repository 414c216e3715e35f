"""Sparse regularisation by the l1 norm, with the proximal map beside AdamW."""

import torch

from prune_torch import density, finetune
from prune_torch.methods.base import Method, magnitudes


class ProximalL1(Method):
    """After every step each weight moves towards zero by (learning rate) * λ.

    λ is such that, without a gradient, just the weights that are too many would end at zero: the
    (n - count)-th smallest |w| over the sum of the learning rates. Nothing is tuned.
    """

    share = 0.5

    def start(self, optimizer):
        scores = torch.cat([m.flatten() for m in magnitudes(self.cell.parameters).values()])
        surplus = max(1, len(scores) - self.cell.count)
        way = finetune.total_rate(self.cell.steps, self.cell.rate)
        self.penalty = float(scores.kthvalue(surplus).values) / way
        self.optimizer_used = optimizer

    @torch.no_grad()
    def after_step(self, step):
        threshold = self.optimizer_used.param_groups[0]["lr"] * self.penalty
        for parameter in self.cell.parameters.values():
            parameter.copy_(torch.nn.functional.softshrink(parameter, threshold))

    def masks(self, count):
        return density.top_masks(magnitudes(self.cell.parameters), count)
