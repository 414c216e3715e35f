"""Data sets of functions: values at coordinates. Volumes, fields on a sphere, sound, video, scenes.

An image is a function, too, of two coordinates; image data sets stay `Dataset`s of whole images,
whose coordinates nobody has to store. Everything else comes as `FunctionSet`.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from groundfloor.data.split import require_enough


@dataclass(frozen=True, eq=False)
class Functions:
    """One split: n functions, known at N points each.

    values: (n, N, c), uint8 (0 ... 255 for 0 ... 1) or float32 about [0, 1].
    coords: float32 (N, d), the same points for all, or (n, N, d), each its own.
    labels: int64 (n,), -1 without labels; ids: int64 (n,).
    mask: bool (n, N), the points that count, where functions have different numbers of points
    (the others are padding); None: all count.
    """

    values: np.ndarray
    coords: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    mask: np.ndarray | None = None

    def __post_init__(self):
        n, points, _ = self.values.shape
        fits = (
            self.coords.shape[:-1] in ((points,), (n, points))
            and self.labels.shape == self.ids.shape == (n,)
            and (self.mask is None or self.mask.shape == (n, points))
        )
        if not fits:
            raise ValueError("values, coords, labels, ids and mask do not fit each other")

    def __len__(self):
        return len(self.values)

    @property
    def shared(self):
        """Whether all functions are known at the same points."""
        return self.coords.ndim == 2

    @property
    def aligned(self):
        """Whether all are known at the same points and nowhere else: the rows of `values` can be
        compared number by number."""
        return self.shared and self.mask is None

    def take(self, rows):
        """The functions `rows` (integers, a slice or a mask) as new Functions."""
        coords = self.coords if self.shared else self.coords[rows]
        mask = None if self.mask is None else self.mask[rows]
        return Functions(self.values[rows], coords, self.labels[rows], self.ids[rows], mask)


@dataclass(frozen=True, eq=False)
class FunctionSet:
    """Three disjoint splits of functions of one modality.

    modality: its name, such as "voxels". lattice: shape of the regular lattice that the points are
    in C order, such as (32, 32, 32); None where they are none. fingerprint: as of a `Dataset`.
    scale: (offset, factor) by which values became (value - offset) factor; None: they are as given.
    """

    name: str
    modality: str
    train: Functions
    val: Functions
    test: Functions
    num_classes: int
    fingerprint: str
    lattice: tuple[int, ...] | None = None
    scale: tuple[float, float] | None = None
    noun: ClassVar[str] = "function"

    def require(self, *, classes=0, val=0, test=0):
        """UserError where the data lack what a command needs: `classes` different labels in train,
        so many functions in val and test."""
        found = len(np.unique(self.train.labels)) if self.num_classes else 0
        require_enough(self, found, classes, val, test)


def lattice_points(*sides):
    """Centres of the cells of a regular lattice in [0, 1]^d, float32 (N, d), in C order."""
    axes = [(np.arange(side, dtype=np.float32) + 0.5) / side for side in sides]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(sides))


def fingerprint(*splits):
    """16 hexadecimal digits of the SHA-256 of all that the splits hold."""
    digest = hashlib.sha256()
    for split in splits:
        for array in (split.values, split.coords, split.labels, split.mask):
            if array is not None:
                digest.update(repr(array.shape).encode())
                digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]
