"""Wanda (Sun et al. 2024): |weight| times the norm of its input, compared within each output."""

import torch

from prune_torch import density
from prune_torch.methods.base import Method, input_rows

BATCHES = 8


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

    @torch.no_grad()
    def _input_squares(self):
        """Sums of squares of the inputs of every prunable matrix: dict of name -> (columns,)."""
        model, task, found, hooks = self.cell.model, self.cell.task, {}, []
        for name, parameter in self.cell.parameters.items():
            found[name] = torch.zeros(parameter[0].numel(), device=parameter.device)

            def add(layer, inputs, name=name):
                found[name] += input_rows(layer, inputs[0]).square().sum(0)

            layer = model.get_submodule(name.rpartition(".")[0])
            hooks.append(layer.register_forward_pre_hook(add))
        model.eval()
        for number in range(BATCHES):
            model(task.batch(self.cell.seed, number)[0])
        for hook in hooks:
            hook.remove()
        self.passes += BATCHES
        return found
