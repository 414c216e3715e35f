"""Solids that real digits sweep: four of one class, one morphing into the next from slice to slice.

Values are occupancies, 0 or 255, at the centres of cubes; coordinates are those of [0, 1]^3.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt

from functa_jax.modalities import sets
from groundfloor.data import datasets
from groundfloor.data.functions import lattice_points
from groundfloor.data.split import PARTS

KEYS = 4  # digits in a stack


def load(data_dir=None, images=None, dataset="mnist", count=2000, seed=0):
    """A FunctionSet of `count` solids for train, and a tenth as many for val and test each.

    dataset: name of a set of square images, looked for in data_dir as by `datasets.load`, of which
    each split has its own digits. images: at most this many of each split. The solid is where the
    signed distance to the digits' outlines, interpolated linearly from slice to slice, is inside.
    The cube's side is that of the images.
    """
    data = datasets.load(dataset, data_dir)
    side = data.train.images.shape[1]
    random = np.random.default_rng(seed)
    values, labels, parts = [], [], []
    for part, total in zip(PARTS, (count, -(-count // 10), -(-count // 10)), strict=True):
        split = getattr(data, part)
        rows = {label: np.flatnonzero(split.labels == label) for label in np.unique(split.labels)}
        for label in random.choice(list(rows), total):
            keys = split.images[random.choice(rows[label], KEYS), :, :, 0] >= 128
            values.append(255 * (swept(keys, side) > 0).astype(np.uint8).reshape(-1, 1))
            labels.append(label)
            parts.append(part)
    coords, lattice = lattice_points(side, side, side), (side, side, side)
    return sets.gathered(
        "stacks",
        "voxels",
        np.stack(values),
        coords,
        np.array(labels),
        np.array(parts),
        lattice,
        images,
    )


def swept(keys, depth):
    """Signed distances (depth, h, w), positive inside, between outlines bool (k, h, w)."""
    signed = np.stack([distance_transform_edt(k) - distance_transform_edt(~k) for k in keys])
    place = np.linspace(0, len(keys) - 1, depth)
    lower = np.minimum(place.astype(int), len(keys) - 2)
    share = (place - lower)[:, None, None]
    return (1 - share) * signed[lower] + share * signed[lower + 1]
