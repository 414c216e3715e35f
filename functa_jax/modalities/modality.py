"""What a modality is: the loss and the metric of its functions, and where their points lie.

A new one is a line in MODALITIES and, for a data set of its name, a file modalities/NAME.py with
`load(data_dir, images)` -> FunctionSet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from functa_jax.modalities import metrics


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
    whether points lie in [0, 1]^d. fitted_points: how many points of a function a latent is fitted
    to where whole data sets are (validation, export); None for all. computed: whether
    functa_jax.modalities has a data set of it.
    """

    loss: str = "squared"
    metric: str = "PSNR"
    unit: str = "dB"
    measure: Callable = metrics.psnr
    weigh: Callable | None = None
    unit_cube: bool = True
    fitted_points: int | None = None
    computed: bool = True


MODALITIES = {
    "images": Modality(computed=False),
    "voxels": Modality("bernoulli", "IoU", "", metrics.iou),
    "sphere": Modality(weigh=cosines_of_latitude, unit_cube=False),
    "sound": Modality("squared", "SNR", "dB", metrics.snr, unit_cube=False),
    "video": Modality(),
    "scenes": Modality(unit_cube=False, fitted_points=1024),
    "functions": Modality(unit_cube=False, computed=False),
}


def load(name, data_dir=None, images=None):
    """The FunctionSet of a modality that has one, at most `images` of each split."""
    return import_module(f"functa_jax.modalities.{name}").load(data_dir=data_dir, images=images)
