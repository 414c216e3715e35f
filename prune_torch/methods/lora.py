"""LoRAPrune (Zhang et al. 2024, arXiv 2305.18403): scores from two thin matrices for each weight.

The weights are frozen while one searches; a low-rank change B A beside each is trained. Its
gradients also stand for those of the weights, which are never computed or kept.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize

from prune_torch.methods.base import Method, owner

RANK = 8
REMEMBERED = 0.9  # of the scores at each step


class Adapted(nn.Module):
    """weight -> (weight + B A) * mask, in the weight's own shape; B begins at zero, A at random."""

    def __init__(self, weight, generator):
        super().__init__()
        rows, columns = weight.flatten(1).shape
        rank = min(RANK, rows, columns)
        random = torch.randn(rank, columns, generator=generator) / columns**0.5
        self.a = nn.Parameter(random.to(weight))
        self.b = nn.Parameter(torch.zeros(rows, rank).to(weight))
        self.register_buffer("mask", torch.ones_like(weight))
        self.register_buffer("scores", torch.zeros_like(weight), persistent=False)

    def forward(self, weight):
        return (weight + (self.b @ self.a).view_as(weight)) * self.mask

    @torch.no_grad()
    def remember(self, weight):
        """(gradient * weight)^2 into the running mean of scores."""
        whole = weight + (self.b @ self.a).view_as(weight)
        now = (gradient(self.a, self.b).view_as(weight) * whole).square()
        self.scores.lerp_(now, 1 - REMEMBERED)


def gradient(a, b):
    """The weight's gradient, as far as those of A and B tell: G_B A + B G_A.

    It is how B A moves in a small step of gradient descent.
    """
    return b.grad @ a + b @ a.grad


class LoRAPrune(Method):
    """The largest scores stay; their number falls by a cubic, and the changes B A go into the
    weights."""

    share = 0.7

    def optimizer(self):
        cell, generator, self.adapted = self.cell, self.cell.generator(), {}
        for name, weight in cell.parameters.items():
            weight.requires_grad_(False)
            self.adapted[name] = Adapted(weight.detach(), generator)
            parametrize.register_parametrization(*owner(cell.model, name), self.adapted[name])
        return super().optimizer()

    def after_step(self, step):
        for name, weight in self.cell.parameters.items():
            self.adapted[name].remember(weight.detach())
        for name, mask in self.masks(round(self.wanted(step))).items():
            self.adapted[name].mask.copy_(mask)

    def finish(self):
        for name in self.adapted:
            parametrize.remove_parametrizations(*owner(self.cell.model, name))
        self.cell.parameters = {n: self.cell.model.get_parameter(n) for n in self.adapted}
        for weight in self.cell.parameters.values():
            weight.requires_grad_(True)

    def masks(self, count):
        return self.top_masks({n: a.scores for n, a in self.adapted.items()}, count)
