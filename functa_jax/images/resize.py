"""Pictures of other sizes: area means to reduce, cubic splines to enlarge.

Both keep the pixel grid of `siren.coordinate_grid`: a pixel is a square of the picture, and its
coordinate that square's centre.
"""

import numpy as np
from scipy.ndimage import zoom


def shorter_side(images, side):
    """(height, width) of images (n, h, w, C) when their shorter side becomes `side`, rounded."""
    height, width = images.shape[1:3]
    scale = side / min(height, width)
    return round(height * scale), round(width * scale)


def reduce(images, height, width):
    """Area means of images (n, h, w, C), floats: float32 (n, height, width, C).

    Each new pixel is the mean over its own rectangle of the old picture, parts of old pixels
    counting as such; the mean of a picture therefore stays what it was.
    """
    rows, columns = (
        _overlaps(old, new) for old, new in zip(images.shape[1:3], (height, width), strict=True)
    )
    half = np.tensordot(rows, images, (1, 1))  # (height, n, w, C)
    return np.tensordot(columns, half, (1, 2)).transpose(2, 1, 0, 3).astype(np.float32)


def _overlaps(old, new):
    """(new, old): how much of each new pixel lies in each old one; rows sum to 1."""
    edges = np.arange(new + 1)[:, None] * old / new
    pixels = np.arange(old)
    covered = np.clip(edges, pixels, pixels + 1) - pixels  # of each old pixel, up to each edge
    return np.diff(covered, axis=0) * new / old


def enlarge(images, factor):
    """Images (n, h, w, C), floats, `factor` (an integer) times larger, by cubic splines."""
    return zoom(images, (1, factor, factor, 1), order=3, mode="reflect", grid_mode=True)
