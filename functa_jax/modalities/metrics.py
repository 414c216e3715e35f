"""How far is a prediction from the function? One number for each of n functions.

All take predictions and values (n, N, c), floats about [0, 1], and weights of the points, (N,) or
(n, N), or None: areas on a sphere, a mask of points that count.
"""

import numpy as np

from functa_jax.images import signals


def mean_over_points(per_point, weights=None):
    """Means (n,) of (n, N, c) over channels and over points, weighted."""
    per_point = per_point.mean(-1)
    if weights is None:
        return per_point.mean(-1)
    weights = np.broadcast_to(weights, per_point.shape).astype(np.float64)
    return (per_point * weights).sum(-1) / weights.sum(-1)


def squared_error(prediction, values, weights=None):
    """Mean squared errors (n,)."""
    difference = np.asarray(prediction, np.float64) - values
    return mean_over_points(difference**2, weights)


def psnr(prediction, values, weights=None):
    """Peak signal-to-noise ratios (n,) in dB for values in [0, 1]; at most 120."""
    return signals.psnr(squared_error(prediction, values, weights))


def snr(prediction, values, weights=None, silence=0.5):
    """Signal-to-noise ratios (n,) in dB, of sound whose silence is 0.5; at most 120."""
    values = np.asarray(values, np.float64)
    power = np.maximum(mean_over_points((values - silence) ** 2, weights), 1e-12)
    error = squared_error(prediction, values, weights)
    return 10 * np.log10(power / np.maximum(error, 1e-12 * power))


def iou(prediction, values, weights=None):
    """Intersection over union (n,) of what is above one half; 1 where both are empty."""
    guess, truth = np.asarray(prediction) > 0.5, np.asarray(values) > 0.5
    both = mean_over_points(guess & truth, weights)
    either = mean_over_points(guess | truth, weights)
    return np.where(either > 0, both / np.where(either > 0, either, 1), 1.0)
