"""Penalties that steer themselves, so that the level is met without cutting.

After the idea of Aloradi et al. (2026, arXiv 2605.07892) for Bregman training: after every step the
penalty grows or falls with the gap between the density that there is and the one that is wanted.
"""

import math

import torch

from prune_torch.methods.dessilbi import DessiLBIPath
from prune_torch.methods.l1 import ProximalL1
from prune_torch.methods.structured import GroupLasso

GAIN = 100.0  # over a search: change of the penalty's logarithm by the gap of densities


class Steered:
    """Before a method with a penalty. The number of weights that is wanted falls by a cubic, and is
    the level's for the last fifth of the search."""

    def after_step(self, step):
        super().after_step(step)
        gap = self.kept() - self.wanted(step)
        self.penalty *= math.exp(GAIN / self.cell.steps * gap / sum(self.sizes().values()))

    def kept(self):
        """How many prunable weights are not zero."""
        return sum(int(p.count_nonzero()) for p in self.cell.parameters.values())


class SteeredL1(Steered, ProximalL1):
    """l1, its λ steered."""


class SteeredGroupLasso(Steered, GroupLasso):
    """Group lasso, its λ steered.

    A group that is zero has no gradient and stays zero. So no step takes those that should stay.
    """

    def threshold(self, levels, step):
        stay = self.chosen(levels, round(self.wanted(step)))
        least = float(levels[stay].min()) if stay.any() else math.inf
        return min(super().threshold(levels, step), (1 - 1e-3) * least)


class SteeredDessiLBI(DessiLBIPath):
    """DessiLBI whose threshold is, after every step, the one that `count` of |V| have passed.

    So Γ is as dense as the level all the time, whatever λ would have led there; one search for
    each level.
    """

    one_for_all = False

    @torch.no_grad()
    def after_step(self, step):
        levels = torch.cat([level.flatten() for level in self.levels().values()])
        going = len(levels) - self.cell.count
        level = float(levels.kthvalue(going).values) if going else 0.0
        self.path.param_groups[0]["threshold"] = level
        for parameter in self.cell.parameters.values():
            state = self.path.state[parameter]
            state["gamma"].copy_(torch.nn.functional.softshrink(state["v"], level))

    def levels(self):
        """|V| of every prunable parameter: dict of name -> tensor."""
        return {n: self.path.state[p]["v"].abs() for n, p in self.cell.parameters.items()}

    def finish(self):
        self.scores = self.levels()
