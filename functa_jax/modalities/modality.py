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
    the better. weigh: weights (...) of points (..., d), None where all weigh alike. domain: where
    points lie: "cube", [0, 1]^d; "sphere", unit vectors; "seen", between those of training, where
    all functions share them; "any".
    """

    loss: str = "squared"
    metric: str = "PSNR"
    unit: str = "dB"
    measure: Callable = metrics.psnr
    weigh: Callable | None = None
    domain: str = "cube"


def refuse_outside(modality, coords, what, seen=None):
    """UserError where points (..., d) of a modality lie outside of its domain, where nothing was
    learnt; seen: points (N, d) of training, None if each function had its own."""
    domain = MODALITIES[modality].domain
    if not coords.size or domain == "any" or (domain == "seen" and seen is None):
        return
    if domain == "sphere":
        lengths = np.linalg.norm(coords, axis=-1)
        least, most = float(lengths.min()), float(lengths.max())
        if not 0.999 <= least <= most <= 1.001:
            raise UserError(f"{what} have lengths of {least:g} to {most:g}; they are unit vectors")
        return
    least, most = float(coords.min()), float(coords.max())
    low, high = (0.0, 1.0) if domain == "cube" else (float(seen.min()), float(seen.max()))
    slack = 1e-6 * (high - low)
    if not low - slack <= least <= most <= high + slack:
        raise UserError(
            f"{what} are {least:g} to {most:g}; points lie in "
            f"[{low:g}, {high:g}]^{coords.shape[-1]}"
        )


MODALITIES = {
    "images": Modality(),
    "voxels": Modality("bernoulli", "IoU", "", metrics.iou),
    "sphere": Modality(weigh=cosines_of_latitude, domain="sphere"),
    "sound": Modality("squared", "SNR", "dB", metrics.snr, domain="seen"),
    "video": Modality(),
    "scenes": Modality(domain="any"),
    "functions": Modality(domain="any"),
}
