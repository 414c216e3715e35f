"""The data set "scenes": views of computed solids from the same cameras around each.

500 train, 50 validation and 50 test scenes of ten classes, 24 views of 32 x 32 pixels each. All
scenes share their cameras, so that a linear rival (`scenes.rivals`) can be had; the field could do
without. A fourth of the views is never given at test: those are the novel ones.
"""

import colorsys
from contextlib import suppress

import numpy as np

from functa_jax.modalities import sets, shapes
from functa_jax.scenes import cameras, renderer
from groundfloor import npz
from groundfloor.data.decoded import cache_home
from groundfloor.errors import UserError
from groundfloor.runs import Progress, counted

# Rounded cube, drilled cube, thick ring, gear, cross, pyramid, beads, table, U, three-sided column.
CLASSES = (1, 4, 11, 12, 22, 33, 37, 47, 58, 28)
SHARES = (10 / 12, 1 / 12, 1 / 12)
TURN = 45.0  # degrees, at most, about a random axis
INSTANCES = 60  # of a class
VERSION = 1  # another number when the same settings give other pictures


def load(data_dir=None, images=None, instances=INSTANCES, views=24, side=32, seed=0):
    """A FunctionSet of `instances` scenes of each class: colours uint8 (n, views * side * side, 3)
    of rays float32 (views * side * side, 6), the same for all; lattice (views, side, side).

    images: at most this many scenes of each split. Every scene depends on (seed, class, number)
    alone. Rendering takes an eighth of a second a scene; the pictures are kept beside decoded data
    sets. data_dir is not needed.
    """
    if instances < 12 or views < 4 or side < 4:
        raise UserError(
            f"scenes: {counted(instances, 'scene')} a class, {counted(views, 'view')} with a side "
            f"of {side}; at least 12, 4 and 4 are needed"
        )
    labels = np.repeat(np.arange(len(CLASSES)), instances)
    parts = sets.stratified(labels, SHARES)
    poses = cameras.look_at(cameras.spiral(views))
    pictures = _kept_pictures(labels, instances, poses, side, seed)
    values = pictures.reshape(len(labels), -1, 3)
    coords, lattice = cameras.rays(poses, side).reshape(-1, 6), (views, side, side)
    return sets.gathered("scenes", "scenes", values, coords, labels, parts, lattice, images)


def body(label, number, seed=0):
    """The renderer.Body of a scene: a posed solid of class `label`, 0 to 9, and its colour.

    The hue is the class's, give or take 0.04; how pale and how bright it is, the scene's own.
    """
    random = np.random.default_rng((seed, 24, label, number))
    hue = label / len(CLASSES) + random.uniform(-0.04, 0.04)
    colour = colorsys.hsv_to_rgb(hue % 1, random.uniform(0.5, 0.95), random.uniform(0.6, 1))
    return renderer.Body(shapes.posed(CLASSES[label], random, np.radians(TURN)), colour)


def split_views(views):
    """(given, novel): numbers of the views that may be given at test, of `cameras.spiral` the most
    different ones first (of other cameras some order), and of those never given, every fourth."""
    novel = np.arange(2, views, 4)
    rest = np.setdiff1d(np.arange(views), novel)
    places = cameras.spiral(views, distance=1.0)[rest]
    # Each next one is the farthest from those before (Gonzalez 1985); the first is at mid-height.
    order = [len(rest) // 2]
    while len(order) < len(rest):
        nearest = (places @ places[order].T).max(1)
        order.append(int(nearest.argmin()))
    return rest[order], novel


def _kept_pictures(labels, instances, poses, side, seed):
    """uint8 (n, views, side, side, 3), rendered or found where they were kept."""
    home = cache_home()
    name = f"scenes-{VERSION}-{instances}x{len(poses)}x{side}-{seed}.npz"
    path = home and home / "functa" / "decoded" / name
    shape = (len(labels), len(poses), side, side, 3)
    if path:
        # Missing, damaged or another user's: rendered again.
        with suppress(UserError), npz.reading(path, "pictures of scenes") as arrays:
            if arrays["pictures"].shape == shape and arrays["pictures"].dtype == np.uint8:
                return arrays["pictures"]
    pictures = np.empty(shape, np.uint8)
    with Progress(len(labels), "scene") as progress:
        for row, label in enumerate(labels):
            scene = body(int(label), row % instances, seed)
            pictures[row] = renderer.pictures(scene, poses, side)
            progress.advance(1)
    if path:
        # Kept to spare time: where it cannot be written, nothing is lost.
        with suppress(OSError, UserError):
            npz.write(path, {"pictures": pictures})
    return pictures
