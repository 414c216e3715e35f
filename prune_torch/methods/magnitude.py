"""Magnitude pruning: keep the largest weights, over all layers or layer by layer."""

import torch

from groundfloor.pytorch import masking
from prune_torch import density
from prune_torch.methods.base import Method, magnitudes

FLOOR = 0.02  # of each layer, at least


class Magnitude(Method):
    """Global: the largest |w| of all layers together."""

    def masks(self, count):
        return masking.top_masks(magnitudes(self.cell.parameters), count)


class MagnitudeLate(Magnitude):
    """Global, but after dense training for as many steps as the longest search: its control."""

    share = 0.75  # as RigL's
    one_for_all = True

    def search_result(self):
        return {}

    def resume(self, result):
        """Nothing: the trained network holds all that `masks` needs."""


class MagnitudeFloor(Method):
    """Global, but every layer keeps its largest 2 %, so that none is cut through."""

    def masks(self, count):
        scores = magnitudes(self.cell.parameters)
        sizes = self.sizes()
        share = min(FLOOR, count / max(1, sum(sizes.values())))
        counts = {name: int(share * size) for name, size in sizes.items()}
        for name, mask in density.layer_masks(scores, counts).items():
            scores[name] = torch.where(mask, torch.inf, scores[name])
        return masking.top_masks(scores, count)


class Layerwise(Method):
    """The same density in every layer."""

    def masks(self, count):
        scores = magnitudes(self.cell.parameters)
        return density.layer_masks(scores, self.layer_counts(count))


class ERK(Layerwise):
    """Densities by `density.erdos_renyi`: small and narrow layers keep more."""

    def layer_densities(self, count):
        return density.erdos_renyi(self.cell.parameters)
