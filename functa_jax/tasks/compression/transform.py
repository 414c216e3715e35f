"""The transform before quantisation: numbers of a block of cells, decorrelated where they matter.

An error e of a latent's numbers moves the picture by J e, J the decoder's Jacobian: its square is
e' M e, M the mean of J'J over images. In the coordinates u = V' M^(1/2) (z - mean) errors of all
numbers move pictures alike, so that one step suits them all (equal slopes: "reverse water-filling",
Cover and Thomas 2006, 10.3.3), and with V the eigenvectors of their covariance they are
uncorrelated (the Karhunen-Loeve transform; Gersho and Gray 1992, 8.6). All blocks of a grid share
one transform. With pixels as cells and M the identity this is PCA, of whole images or of their
blocks.

Shapes: n images, grids of s x s cells with c numbers, blocks of b x b cells, so B x B blocks of
d = b*b*c numbers each, of which the transform keeps the first m.
"""

from dataclasses import dataclass

import numpy as np

FLAT = 1e-4  # of M's greatest eigenvalue: what moves pictures less is taken to move them as much


@dataclass(frozen=True, eq=False)
class Transform:
    """mean float32 (s, s, c); forward float32 (d, m), None where it is only undone; inverse float32
    (m, d); side: b."""

    mean: np.ndarray
    forward: np.ndarray | None
    inverse: np.ndarray
    side: int

    @property
    def blocks(self):
        """Blocks per side, B."""
        return self.mean.shape[0] // self.side

    def apply(self, grids):
        """Grids (n, s, s, c) -> coordinates float32 (n, B, B, m), largest variance first."""
        return to_blocks(np.asarray(grids, np.float32) - self.mean, self.side) @ self.forward

    def undo(self, coordinates):
        """Coordinates (n, B, B, m) -> grids float32 (n, s, s, c)."""
        return to_grids(coordinates @ self.inverse, self.side) + self.mean

    def first(self, count):
        """The transform that keeps `count` numbers of a block; the others become their mean."""
        return Transform(self.mean, self.forward[:, :count], self.inverse[:count], self.side)


def to_blocks(grids, side):
    """Grids (n, s, s, c) -> blocks (n, B, B, d)."""
    n, cells, _, c = grids.shape
    parts = grids.reshape(n, cells // side, side, cells // side, side, c)
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(
        n, cells // side, cells // side, side * side * c
    )


def to_grids(blocks, side):
    """The inverse of `to_blocks`."""
    n, count, _, numbers = blocks.shape
    cell = numbers // side**2
    parts = blocks.reshape(n, count, count, side, side, cell).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, count * side, count * side, cell)


def fit(train, side, gradients=None):
    """The Transform of grids like `train` (n, s, s, c) in blocks of side x side cells.

    gradients: grids (k, s, s, c), each J'v of a random picture v with independent entries of
    variance 1, whose second moment is M; None where numbers are pixels.
    """
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = _second_moment(train, mean, side)
    root = inverse_root = np.eye(len(covariance))
    if gradients is not None:
        values, vectors = np.linalg.eigh(_second_moment(gradients, 0, side))
        root_values = np.sqrt(np.maximum(values, max(FLAT * values.max(), 1e-30)))
        root = vectors * root_values @ vectors.T
        inverse_root = vectors / root_values @ vectors.T
    _, directions = np.linalg.eigh(root @ covariance @ root)
    directions = directions[:, ::-1]
    forward, inverse = root @ directions, directions.T @ inverse_root
    return Transform(mean, np.float32(forward), np.float32(inverse), side)


def _second_moment(grids, mean, side, piece=4096):
    """Mean of y y' over the blocks y (d,) of grids - mean, in float64."""
    total, count = 0.0, 0
    for start in range(0, len(grids), piece):
        part = to_blocks(grids[start : start + piece].astype(np.float64) - mean, side)
        rows = part.reshape(-1, part.shape[-1])
        total, count = total + rows.T @ rows, count + len(rows)
    return total / count
