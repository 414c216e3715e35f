"""Solids in a cube: 64 classes of computed shapes in random poses.

No wheel among the requirements has a real volume (scikit-image's are downloaded, matplotlib has one
slice of a head), so that the shapes are computed; modalities/stacks.py makes others of real digits.
Values are occupancies, 0 or 255, at the centres of cubes; coordinates are those of [0, 1]^3.
"""

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from functa_jax.modalities import sets, shapes
from groundfloor.data.functions import lattice_points
from groundfloor.errors import UserError
from groundfloor.runs import counted

TURN = 45.0  # degrees


def load(
    data_dir=None, images=None, classes=shapes.CLASSES, instances=20, side=32, turn=TURN, seed=0
):
    """A FunctionSet of posed shapes, `instances` of each of the first `classes` of shapes.CLASSES.

    images: at most this many of each split. side: of the cube, in voxels. turn: degrees, at most,
    by which a shape is turned about a random axis; 180 for any. Of each class 14 of 20 are train, 2
    val and 4 test. Every shape depends on (seed, class, number) alone. data_dir is not needed.
    """
    if not 1 <= classes <= shapes.CLASSES or instances < 10 or side < 4:
        raise UserError(
            f"voxels: {counted(classes, 'class', 'classes')} of {instances} shapes with a side of "
            f"{side}; 1 to {shapes.CLASSES} classes of at least 10, with a side of at least 4, are "
            "possible"
        )
    labels = np.repeat(np.arange(classes), instances)
    values = np.empty((len(labels), side**3, 1), np.uint8)
    for row, label in enumerate(labels):
        values[row, :, 0] = 255 * occupancy(solid(label, row % instances, turn, seed), side).ravel()
    parts = sets.stratified(labels)
    coords, lattice = lattice_points(side, side, side), (side, side, side)
    return sets.gathered("voxels", "voxels", values, coords, labels, parts, lattice, images)


def solid(label, number, turn=TURN, seed=0):
    """The posed shape `number` of a class, as shapes.Solid: an implicit function on [-1, 1]^3."""
    return shapes.posed(label, np.random.default_rng((seed, label, number)), np.radians(turn))


def occupancy(inside, side):
    """bool (side, side, side): whether at least half of a voxel is solid.

    inside: function of points (..., 3) in [-1, 1]^3, negative in the solid. Voxels whose
    neighbours differ from them are judged by eight points, the others by their centre.
    """
    points = 2 * lattice_points(side, side, side) - 1
    full = (inside(points) < 0).reshape(side, side, side)
    edge = (binary_dilation(full) & ~binary_erosion(full, border_value=1)).ravel()
    eighths = (2 * lattice_points(2, 2, 2) - 1) / side
    votes = inside(points[edge][:, None] + eighths) < 0
    full.reshape(-1)[edge] = votes.mean(1) >= 0.5
    return full
