"""Sparse linear regression as a path, where the truth is known: LBI, split LBI and their limit.

The loss is ‖y − X b‖²/2n, X (n, p) and y (n,), without intercept: centre both first. Paths start
from zero at time 0. Time is such that dual' = −gradient of the loss: its unit is 1/|gradient|, and
where X'X/n = I, coefficient j enters at 1/|X_j'y/n|. Time t stands beside the penalty 1/t of the
lasso, whose path is the mean of ISS's from 0 to t until a coefficient of ISS goes back to zero.
Every function is pure and refuses impossible arguments with a ValueError.

Osher, Ruan, Xiong, Yao, Yin 2016, "Sparse recovery via differential inclusions" (LBI, ISS); Huang,
Sun, Xiong, Yao 2016, "Split LBI"; Fu et al. 2020, "DessiLBI" (the same iteration for networks).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

ROUNDING = 1e-12  # in ISS, gradients this small beside the first one are zero


@dataclass(frozen=True, eq=False)
class Path:
    """A path at T recorded times.

    times (T,), from 0. coefficients (T, p): b or Γ, sparse. duals (T, p): z, V or ρ. entry (p,):
    time at which each coefficient first becomes nonzero, exact to the step; inf if it never does.
    """

    times: np.ndarray
    coefficients: np.ndarray
    duals: np.ndarray
    entry: np.ndarray


def soft(z, threshold):
    """Soft threshold: z moved towards 0 by `threshold`, and 0 where |z| ≤ threshold."""
    return z - np.clip(z, -threshold, threshold)


def lbi(X, y, *, kappa, until, alpha=None, threshold=1.0, every=1):
    """Linearised Bregman iteration (Osher et al. 2016), from zero up to the time `until`.

    z ← z + α X'(y − X b)/n, then b ← κ soft(z, threshold).
    kappa: damping; the larger, the closer to `iss`, and the more steps. alpha: time of one step,
    below 2/(κ ‖X'X/n‖₂), from where on it is not stable; default half of that. every: record one
    in so many steps, and the last. Returns a Path.
    """
    X, y = _checked(X, y, kappa=kappa, until=until, threshold=threshold, every=every)
    alpha = _stable(alpha, kappa, np.linalg.norm(X, 2) ** 2 / len(X))

    def states():
        b = z = np.zeros(X.shape[1])
        while True:
            yield b, z
            z = z + (alpha / len(X)) * (X.T @ (y - X @ b))
            b = kappa * soft(z, threshold)

    return _recorded(states(), alpha, until, every)[0]


def split_lbi(X, y, *, nu, kappa, until, alpha=None, threshold=1.0, every=1):
    """Split LBI (Huang et al. 2016) as DessiLBI iterates it: W fits the data, Γ is sparse.

    W ← W − κα(X'(X W − y)/n + (W − Γ)/ν), V ← V − (α/ν)(Γ − W_old), Γ ← κ soft(V, threshold).
    nu: ‖W − Γ‖²/2ν couples the two. Other arguments as in `lbi`; alpha's limit is that of the
    joint loss. Returns a Path of Γ and V, and W (T, p) beside it.
    For κ → ∞ the path is `iss` of `whitened` data; for ν → 0 it is that of `lbi` with κ/2.
    """
    X, y = _checked(X, y, nu=nu, kappa=kappa, until=until, threshold=threshold, every=every)
    half = np.linalg.norm(X, 2) ** 2 / len(X) / 2
    alpha = _stable(alpha, kappa, half + 1 / nu + math.hypot(half, 1 / nu))

    def states():
        gamma = v = w = np.zeros(X.shape[1])
        while True:
            yield gamma, v, w
            pull = (w - gamma) / nu
            w = w - (kappa * alpha) * (X.T @ (X @ w - y) / len(X) + pull)
            v = v + alpha * pull
            gamma = kappa * soft(v, threshold)

    return _recorded(states(), alpha, until, every)


def whitened(X, y, nu):
    """S^(−1/2) X and S^(−1/2) y with S = I + ν XX'/n: large singular values are flattened.

    Their loss at Γ is that of split LBI with the best W.
    """
    X, y = _checked(X, y, nu=nu)
    left, values, right = np.linalg.svd(X, full_matrices=False)
    factors = 1 / np.sqrt(1 + nu * values**2 / len(X))
    return left * (factors * values) @ right, y + left @ ((factors - 1) * (left.T @ y))


def iss(X, y, until=math.inf):
    """Inverse scale space (Osher et al. 2016), exactly: `lbi` for κ → ∞, α → 0, threshold 1.

    ρ' = X'(y − X b)/n with ρ a subgradient of ‖b‖₁: b is constant between jumps. A jump is where
    some |ρ_j| reaches 1; b becomes the least squares fit by those with |ρ_j| = 1, of their sign.
    Ends where nothing is left to fit, or at `until`. Condition numbers above 1e6 cost accuracy.
    Returns a Path: coefficients[k] holds from the jump at times[k] to the next.
    """
    X, y = _checked(X, y)
    time, b, rho = 0.0, np.zeros(X.shape[1]), np.zeros(X.shape[1])
    rows, entry = [(time, b, rho)], np.full_like(b, np.inf)
    least = ROUNDING * np.abs(X.T @ y / len(X)).max()
    while True:
        slope = X.T @ (y - X @ b) / len(X)
        slope[(b != 0) | (rho == np.sign(slope)) | (np.abs(slope) <= least)] = 0
        waits = np.full_like(b, np.inf)
        np.divide(np.sign(slope) - rho, slope, out=waits, where=slope != 0)
        wait = waits.min()
        if wait == np.inf or time + wait > until:
            return Path(*map(np.array, zip(*rows, strict=True)), entry)
        time += wait
        rho = np.where(waits == wait, np.sign(slope), np.clip(rho + wait * slope, -1, 1))
        free = np.abs(rho) == 1
        b = np.zeros_like(b)
        b[free] = rho[free] * nnls(X[:, free] * rho[free], y)[0]
        entry[(b != 0) & np.isinf(entry)] = time
        rows.append((time, b, rho))


def _recorded(states, alpha, until, every):
    """A Path of the states (sparse, dual, ...) up to `until`, and what else they hold (T, p)."""
    last = math.ceil(until / alpha)
    times, rows, entry = [], [], math.inf
    for k, state in zip(range(last + 1), states, strict=False):
        entry = np.where((state[0] != 0) & np.isinf(entry), k * alpha, entry)
        if k % every == 0 or k == last:
            times.append(k * alpha)
            rows.append(state)
    sparse, dual, *rest = (np.array(column) for column in zip(*rows, strict=True))
    return Path(np.array(times), sparse, dual, entry), *rest


def _checked(X, y, **positive):
    X, y = np.asarray(X, float), np.asarray(y, float)
    if X.ndim != 2 or y.shape != X.shape[:1] or not X.size:
        raise ValueError(f"X {X.shape} and y {y.shape}: must be (n, p) and (n,), and not empty")
    if not (np.isfinite(X).all() and np.isfinite(y).all() and X.any()):
        raise ValueError("X and y: must be finite, and X not zero")
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} {value}: must be positive and finite")
    return X, y


def _stable(alpha, kappa, curvature):
    """alpha, or its default; refuses steps from which the iteration would blow up."""
    limit = 2 / (kappa * curvature)
    alpha = limit / 2 if alpha is None else alpha
    if not 0 < alpha < limit:
        raise ValueError(f"alpha {alpha}: must be positive and, to be stable, below {limit:.6g}")
    return alpha
