"""What images may be where they enter: uint8, or floats about [0, 1]; their bytes, their PSNR."""

import numpy as np

from groundfloor.errors import UserError

LOWEST, HIGHEST = -0.5, 1.5  # noise and overshoot are legal, other units (0..16, 0..255) are not


def checked(images, name="images"):
    """`images` as an array; UserError unless uint8, or finite floats about [0, 1]. name: of what is
    given."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{name} are {images.dtype}; give uint8, or floats in [0, 1]")
    low, high = (float(end(images, initial=0.5)) for end in (np.min, np.max))  # NaN stays NaN
    if not LOWEST <= low <= high <= HIGHEST:
        span = f"{low:g} to {high:g}" if np.isfinite([low, high]).all() else "not finite"
        raise UserError(f"{name} are {span}; give uint8, or floats in [0, 1]")
    return images


def to_float(images):
    """Images as float32 signals, uint8 divided by 255."""
    images = np.asarray(images)
    floats = images.astype(np.float32)
    return floats / 255 if images.dtype == np.uint8 else floats


def to_bytes(pictures):
    """Pictures, about [0, 1], clipped and rounded to uint8."""
    return np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)


def psnr(errors):
    """Peak signal-to-noise ratio in dB of mean squared errors, an array of NumPy or JAX.

    -10 log10(error), for signals in [0, 1]; at most 120 dB.
    """
    library = errors.__array_namespace__()
    return -10 * library.log10(library.maximum(errors, 1e-12))
