"""Films of digits that move and bounce: functions of time, row and column, all in [0, 1].

Digits are MNIST's where it is found, else scikit-learn's; films are made on the fly, as those of
Srivastava et al. (2015), "Unsupervised learning of video representations using LSTMs", with one
digit each, whose class is the label.
"""

import numpy as np
from scipy.ndimage import shift

from functa_jax.images.resize import reduce
from functa_jax.modalities import sets
from groundfloor.data import datasets
from groundfloor.data.functions import lattice_points
from groundfloor.data.split import PARTS
from groundfloor.errors import UserError


def load(data_dir=None, images=None, dataset=None, count=2000, frames=8, side=32, seed=0):
    """A FunctionSet of films of `frames` pictures of side x side pixels, uint8.

    images: at most this many of each split. dataset: of digits, looked for in data_dir as by
    `datasets.load`; None: mnist, or digits where it is missing. count: of train; val and test have
    a tenth each, of digits of their own. A digit is half as large as the picture.
    """
    if frames < 2 or side < 8 or count < 2:
        raise UserError(
            f"video: {count} films of {frames} frames of {side}x{side} pixels; at least 2 of 2 of "
            "8x8 are needed"
        )
    data = _digits(dataset, data_dir)
    random = np.random.default_rng(seed)
    values, labels, parts = [], [], []
    for part, total in zip(PARTS, (count, -(-count // 10), -(-count // 10)), strict=True):
        split = getattr(data, part)
        rows = random.choice(len(split), total, replace=total > len(split))
        small = reduce(split.images[rows].astype(np.float32), side // 2, side // 2)[..., 0]
        values += [film(digit, frames, side, random) for digit in small]
        labels.append(split.labels[rows])
        parts += [part] * total
    values = np.stack(values).reshape(len(values), -1, 1)
    coords, lattice = lattice_points(frames, side, side), (frames, side, side)
    labels, parts = np.concatenate(labels), np.array(parts)
    return sets.gathered("video", "video", values, coords, labels, parts, lattice, images)


def film(digit, frames, side, random):
    """uint8 (frames, side, side): a digit (s, s), 0 to 255, on a straight way between the walls.

    It crosses the free room, side - s pixels, at most once and a half; parts of a pixel count.
    """
    room = side - len(digit)
    start, speed = random.uniform(0, room, 2), random.uniform(-1.5, 1.5, 2) * room / frames
    canvas = np.zeros((side, side), np.float32)
    canvas[: len(digit), : len(digit)] = digit
    places = bounced(start + speed * np.arange(frames)[:, None], room)
    moved = [shift(canvas, place, order=1) for place in places]
    return np.rint(np.clip(moved, 0, 255)).astype(np.uint8)


def bounced(places, room):
    """Places on a line, folded into [0, room] as by mirrors at both ends."""
    return room - np.abs(np.mod(places, 2 * room) - room)


def _digits(dataset, data_dir):
    if dataset is not None:
        return datasets.load(dataset, data_dir)
    try:
        return datasets.load("mnist", data_dir)
    except UserError:
        print("video: no MNIST in the data folder; the digits are scikit-learn's", flush=True)
        return datasets.load("digits")
