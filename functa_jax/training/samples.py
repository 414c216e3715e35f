"""What training sees of a split, images or functions: values at coordinates, and their weights."""

from dataclasses import dataclass

import numpy as np

from functa_jax.modalities.modality import MODALITIES
from functa_jax.model import radiance, siren
from groundfloor import seeds
from groundfloor.data.functions import Functions
from groundfloor.errors import UserError


@dataclass(frozen=True, eq=False)
class Samples:
    """n functions in the shapes that the model and the loops take.

    values (n, N, C), uint8 or floats about [0, 1]; coords float32 (N, d), or (n, N, d) of each;
    weights of the points, float32 (N,), or (n, N) of each, or None. In a grid of cells values and
    coords are as `siren.arrange` and `siren.points` make them.
    """

    values: np.ndarray
    coords: np.ndarray
    weights: np.ndarray | None = None

    @classmethod
    def of(cls, config, split):
        """Those of a Split of images, or of Functions, for a ModelConfig."""
        if isinstance(split, Functions):
            weights = point_weights(config.modality, split.coords, split.mask)
            return cls(split.values, split.coords, weights)
        points = np.asarray(siren.points(config, split.images.shape[1:3]))
        return cls(siren.arrange(config, np.asarray(split.images)), points)

    def __len__(self):
        return len(self.values)

    def instructive(self, config):
        """Without the rays, where all share them, that miss the ball which holds a scene: they see
        the background whatever the network says. Training and fits are to these alone."""
        of_rays = config.modality == "scenes" and config.ball is not None
        if not of_rays or self.coords.ndim == self.values.ndim:
            return self
        rows = np.asarray(radiance.meets_ball(self.coords, config.ball))
        if not rows.any():
            raise UserError(f"no ray meets the ball of radius {config.ball:g} that holds the scene")
        return self._of_points(rows)

    def thinned(self, count):
        """At most `count` points of each, the same ones in all, drawn once and for all; None for
        all, which it also is where functions weigh points each in its own way."""
        points = self.values.shape[1]
        own_weights = self.weights is not None and self.weights.ndim > 1
        if count is None or count >= points or own_weights:
            return self
        rows = np.sort(np.random.default_rng(seeds.fold(0, "points")).permutation(points)[:count])
        return self._of_points(rows)

    def _of_points(self, rows):
        """With the same points of each alone, integers or a mask."""
        coords = self.coords[:, rows] if self.coords.ndim == self.values.ndim else self.coords[rows]
        weights = None if self.weights is None else self.weights[..., rows]
        return Samples(self.values[:, rows], coords, weights)


def point_weights(modality, coords, mask=None):
    """What points (N, d) or (n, N, d) weigh, (N,) or (n, N), float32: by their modality, and 0
    where a mask (n, N) leaves them out. None where all weigh alike."""
    weigh = MODALITIES[modality].weigh
    weights = None if weigh is None else weigh(coords)
    if mask is not None:
        weights = mask if weights is None else mask * weights
    return None if weights is None else weights.astype(np.float32)
