"""What a modality is: the loss and the metric of its functions, and where their points lie.

A new one is a line in MODALITIES; a data set of it that is computed, functa_jax/modalities/NAME.py
with `load(data_dir, images)` -> FunctionSet and a word in loading.COMPUTED.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from functa_jax.modalities import metrics
from groundfloor.errors import UserError


def cosines_of_latitude(coords):
    """What points of a sphere, unit vectors (..., 3), stand for on a lattice of equal steps in
    latitude and longitude: areas like (...)."""
    return np.sqrt(np.maximum(0, 1 - coords[..., 2] ** 2))


@dataclass(frozen=True)
class Modality:
    """One kind of functions.

    loss: "squared", or "bernoulli" where values are probabilities, such as occupancies, and the
    network's outputs their logits (training/losses.py). metric: the headline's name; measure(
    predictions, values, weights) of (n, N, c) gives it for each function (n,), in `unit`, the more
    the better. weigh: weights (...) of points (..., d), None where all weigh alike. unit_cube:
    whether points lie in [0, 1]^d.
    """

    loss: str = "squared"
    metric: str = "PSNR"
    unit: str = "dB"
    measure: Callable = metrics.psnr
    weigh: Callable | None = None
    unit_cube: bool = True


def refuse_outside(modality, coords, what):
    """UserError where points (..., d) of a modality that has [0, 1]^d are not all in it."""
    if not MODALITIES[modality].unit_cube or not coords.size:
        return
    low, high = float(coords.min()), float(coords.max())
    if not -1e-6 <= low <= high <= 1 + 1e-6:
        raise UserError(f"{what} are {low:g} to {high:g}; points lie in [0, 1]^{coords.shape[-1]}")


MODALITIES = {
    "images": Modality(),
    "voxels": Modality("bernoulli", "IoU", "", metrics.iou),
    "sphere": Modality(weigh=cosines_of_latitude, unit_cube=False),
    "sound": Modality("squared", "SNR", "dB", metrics.snr, unit_cube=False),
    "video": Modality(),
    "scenes": Modality(unit_cube=False),
    "functions": Modality(unit_cube=False),
}
