"""Dynamic sparse training: SET (Mocanu et al. 2018) and RigL (Evci et al. 2020)."""

import math

import torch

from groundfloor.pytorch import masking
from prune_torch.methods.base import magnitudes
from prune_torch.methods.magnitude import ERK


class RigL(ERK):
    """Start from the largest weights of an ERK network; a few times the smallest of each layer go
    and those with the largest gradient come, beginning at zero, without momentum."""

    share = 0.75
    swapped = 0.3  # of a layer's weights at the first time, falling by a cosine
    times = 8  # far enough apart for newcomers to grow: a hundred steps in the paper

    def start(self, optimizer):
        self.optimizer_used = optimizer
        self.every = max(1, self.cell.steps // self.times)
        self.now = super().masks(self.cell.count)
        self.random = self.cell.generator()
        self.handle = masking.hold(optimizer, self.cell.parameters, self.now)

    def newcomers(self, name, parameter):
        """Scores of the weights that may come."""
        return parameter.grad.abs()

    def after_step(self, step):
        if (step + 1) % self.every:
            return
        share = 0.5 * self.swapped * (1 + math.cos(math.pi * (step + 1) / self.cell.steps))
        sizes = magnitudes(self.cell.parameters)
        for name, parameter in self.cell.parameters.items():
            mask = self.now[name]
            kept = int(mask.sum())
            barred = mask | ~self.cell.held[name] if self.cell.held else mask
            moving = min(int(share * kept), int((~barred).sum()))
            staying = {name: torch.where(mask, sizes[name], -1.0)}
            stay = masking.top_masks(staying, kept - moving)[name]
            # Only weights that were masked may come, so that every swap is a change.
            scores = torch.where(barred, -1.0, self.newcomers(name, parameter))
            come = masking.top_masks({name: scores}, moving)[name]
            mask.copy_(stay | come)
            for moment in self.optimizer_used.state[parameter].values():
                if moment.shape == parameter.shape:
                    moment.masked_fill_(come, 0.0)
        masking.apply(self.cell.parameters, self.now)

    def finish(self):
        self.handle.remove()

    def masks(self, count):
        return self.now


class SET(RigL):
    """RigL with newcomers drawn at random instead of by gradient."""

    def newcomers(self, name, parameter):
        return torch.rand(parameter.shape, generator=self.random).to(parameter.device)
