"""Wanda (Sun et al. 2024): |weight| times the norm of its input, compared within each output."""

import torch

from prune_torch import density
from prune_torch.methods.base import Method


class Wanda(Method):
    """Every row of every matrix keeps the same share, those with the largest |w_ij| * ||x_j||."""

    def masks(self, count):
        squares = self._input_squares()
        ranks = {}
        for name, parameter in self.cell.parameters.items():
            weight = parameter.detach()
            scores = weight.abs().flatten(1) * squares[name].sqrt()
            order = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            ranks[name] = (-order.double() / scores.shape[1]).view_as(weight)
        return density.top_masks(ranks, count)

    def _input_squares(self):
        """Sums of squares of the inputs of every prunable matrix: dict of name -> (columns,)."""
        parameters = self.cell.parameters
        sums = {n: torch.zeros(p[0].numel(), device=p.device) for n, p in parameters.items()}
        self.watch_inputs(parameters, lambda name, rows: sums[name].add_(rows.square().sum(0)))
        return sums
