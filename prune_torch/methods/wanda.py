"""Wanda (Sun et al. 2024): |weight| times the norm of its input, compared within each output."""

import torch

from prune_torch import density
from prune_torch.methods.base import Method


class Wanda(Method):
    """Every row of a matrix keeps the same share, those with the largest |w_ij| * ||x_j||."""

    def masks(self, count):
        parameters, squares = self.cell.parameters, self.input_squares()
        ranks = {}
        for name, parameter in parameters.items():
            weight = parameter.detach()
            scores = weight.abs().flatten(1) * squares[name].sqrt()
            order = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            ranks[name] = -order.view_as(weight).float()
            if self.cell.held:
                ranks[name].masked_fill_(~self.cell.held[name], -torch.inf)
        return density.layer_masks(ranks, self.layer_counts(count))
