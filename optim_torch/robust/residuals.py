"""Residuals that tell outliers: studentised by deletion, and of a robust start."""

import numpy as np
from scipy import linalg, stats

from optim_torch.robust.huber_path import basis

STARTS, KEPT, STEPS = 50, 10, 10  # of least trimmed squares


def studentised(X, y, weights=None):
    """Externally studentised residuals (n,) and their two-sided p values, without refits.

    Each residual is divided by what the other rows say of its spread: the t statistic of γ_i in
    y = X b + γ_i 1_i + ε, with n − d − 1 degrees of freedom (d: rank). NaN for a row that alone
    decides a coefficient (hat value 1) and where no degree of freedom is left.
    """
    weights = np.ones(len(y)) if weights is None else weights
    Z, _ = basis(X, weights)
    residual, left = y - Z @ (Z.T @ (weights * y)), 1 - (Z**2).sum(1)
    free = weights.sum() - Z.shape[1] - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(left > 1e-10, residual**2 / left, np.nan)
        variance = ((weights * residual**2).sum() - share) / free if free > 0 else np.nan * share
        t = residual / np.sqrt(variance * left)
    return t, 2 * stats.t.sf(np.abs(t), max(free, 1))


def least_trimmed_squares(Z, y, weights, random):
    """c (d,): the fit of the half of the rows that fits best (Rousseeuw and Van Driessen 1999).

    From random rows, as many as columns and one more, to the half with the smallest residuals,
    again and again; the best of several starts. random: np.random.Generator.
    """
    half = (weights.sum() + Z.shape[1] + 1) / 2
    rows = min(Z.shape[1] + 1, len(y))
    starts = [random.choice(len(y), rows, replace=False) for _ in range(STARTS)]
    fits = [_concentrate(Z, y, weights, half, linalg.lstsq(Z[s], y[s])[0], 2) for s in starts]
    best = sorted(fits, key=lambda fit: fit[0])[:KEPT]
    fits = [_concentrate(Z, y, weights, half, c, STEPS) for _, c in best]
    return min(fits, key=lambda fit: fit[0])[1]


def _concentrate(Z, y, weights, half, c, steps):
    for _ in range(steps):
        size = np.abs(y - Z @ c)
        order = np.argsort(size, kind="stable")
        kept = order[: np.searchsorted(np.cumsum(weights[order]), half) + 1]
        root = np.sqrt(weights[kept])
        c = linalg.lstsq(root[:, None] * Z[kept], root * y[kept])[0]
    return (weights[kept] * (y[kept] - Z[kept] @ c) ** 2).sum(), c
