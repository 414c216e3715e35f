"""2:4 sparsity (Mishra et al. 2021): two of every four inputs stay, as tensor cores want it."""

import torch

from prune_torch.methods.wanda import Wanda


class TwoFour(Wanda):
    """Of four inputs in a row, those two of the largest |w_ij| * ||x_j|| stay in every output.

    Half of the prunable weights stay, whatever `count` is.
    """

    chooses = True
    inexact = "two of every four"

    def refusal(self):
        for name, parameter in self.cell.parameters.items():
            if parameter[0].numel() % 4:
                return f"2:4 needs a multiple of 4 inputs; {name} has {parameter[0].numel()}"
        return None

    def masks(self, count):
        masks = {}
        for name, squares in self.input_squares().items():
            weight = self.cell.parameters[name].detach()
            groups = (weight.abs().flatten(1) * squares.sqrt()).unflatten(1, (-1, 4))
            best = groups.argsort(dim=-1, descending=True, stable=True)[..., :2]
            mask = torch.zeros_like(groups, dtype=bool).scatter_(-1, best, True)
            masks[name] = mask.view_as(weight)
        return masks
