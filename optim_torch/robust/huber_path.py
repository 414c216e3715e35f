"""The mean-shift model y = X b + γ + ε, sparse γ, for all penalties λ at once.

min over b, γ of Σ w_i (½ (y_i − x_i b − γ_i)² + λ |γ_i|) has γ_i = soft(r_i, λ), r = y − X b, and b
is Huber's estimate with its corner at λ (She and Owen 2011). b is eliminated in an orthonormal
basis of the columns of X, so nothing is larger than X. Lowering λ from max |r| of least squares,
row i *enters* where |r_i| first exceeds λ. Rows with several responses: ‖r_i‖ in place of |r_i|.
Weights count as repeated rows. λ is in units of y; scikit-learn's Lasso writes alpha = λ/n.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import cg

TIE = 1e-9  # events this close, beside the largest λ, happen together
REFRESH = 64  # knots after which running sums are formed anew


@dataclass(frozen=True, eq=False)
class ShiftPath:
    """lambdas (K,), falling. coefficients (K, d) or (K, d, c). entry (n,): λ at which each row
    enters, 0 if it never does. residuals (n,): |r| or ‖r‖ at the last λ."""

    lambdas: np.ndarray
    coefficients: np.ndarray
    entry: np.ndarray
    residuals: np.ndarray

    @property
    def order(self):
        """Rows by entry, first one first; those that never enter by their last residual."""
        return np.lexsort((-self.residuals, -self.entry))


def basis(X, weights):
    """(Z, T): Z = X T spans the columns of X with Z' W Z = I; b = T c has the least norm, in units
    of the columns, whose own sizes decide nothing."""
    weighted = np.sqrt(weights)[:, None] * X
    sizes = np.linalg.norm(weighted, axis=0)
    sizes[sizes == 0] = 1.0
    _, values, rows = linalg.svd(weighted / sizes, full_matrices=False)
    rank = int((values > values.max(initial=0) * max(X.shape) * np.finfo(float).eps).sum())
    T = rows[:rank].T / values[:rank] / sizes[:, None]
    return X @ T, T


def huber_path(X, y, weights=None, *, until=0.0, share=1.0):
    """The exact path of b, linear between its knots, from least squares down to λ = `until`.

    X (n, d), y (n,). It also ends where more than `share` of the weight has entered, or where b is
    no longer unique (an optimum of least absolute deviations). n knots of O(n d + d³) each.
    """
    weights = np.ones(len(y)) if weights is None else weights
    rows, copy = np.unique(np.column_stack([X, y]), axis=0, return_inverse=True)
    merged = np.bincount(copy.ravel(), weights)  # equal rows move together
    path = _homotopy(rows[:, :-1], rows[:, -1], merged, until, share)
    lambdas, coefficients, entry, residuals = path
    return ShiftPath(lambdas, coefficients, entry[copy.ravel()], residuals[copy.ravel()])


def _homotopy(X, y, weights, until, share):
    Z, T = basis(X, weights)
    WZ = weights[:, None] * Z
    c = WZ.T @ y
    residual = y - Z @ c
    level = top = np.abs(residual).max()
    if top <= 1e-12 * np.abs(y).max(initial=0):  # the columns explain y
        return np.array([0.0]), (T @ c)[None], np.zeros(len(y)), np.abs(residual)
    side = np.zeros(len(y))  # sign of the shift, 0 for rows that fit
    direction = np.zeros_like(c)  # of c while λ falls
    entry, lambdas, knots, still = np.zeros(len(y)), [], [], 0
    tie, most = TIE * top, share * weights.sum()
    for knot in range(50 * len(y) + 50):
        if level > until:  # which rows cross now: into the shift, or back
            slope = Z @ direction
            wait, sign = _waits(residual, slope, side, level)
            step = min(level - until, wait.min())
            step = level - until if step > level - until - tie else step
        else:
            step = 0.0
        if step > 0:
            level, residual = level - step, residual + step * slope
            c = c - step * direction
        lambdas.append(level)
        knots.append(c)
        if level <= until:
            break
        now = np.flatnonzero(wait <= step + tie)
        still = still + 1 if step <= tie else 0
        now = now[:1] if still > 1 else now  # one at a time where many meet, so as not to cycle
        entered = now[side[now] == 0]
        entry[entered] = np.maximum(entry[entered], level)
        side[now] = np.where(side[now] == 0, sign[now], 0)
        if knot % REFRESH == 0:
            fits = side == 0
            gram, pull = WZ[fits].T @ Z[fits], WZ.T @ side
        else:
            change = np.where(side[now] == 0, 1.0, -1.0)[:, None] * WZ[now]
            gram = gram + change.T @ Z[now]
            pull = pull - change.T @ sign[now]
        if weights[side != 0].sum() > most:
            break
        try:
            factor = linalg.cho_factor(gram)
        except linalg.LinAlgError:
            break
        if np.diag(factor[0]).min() < 1e-5:  # b is not unique any more
            break
        direction = linalg.cho_solve(factor, pull)
        if knot % REFRESH == 0:
            c = linalg.cho_solve(factor, WZ[fits].T @ y[fits] + level * pull)
            residual = y - Z @ c
    else:
        raise RuntimeError("the path does not end: many rows meet; perturb y a little")
    return np.array(lambdas), np.array(knots) @ T.T, entry, np.abs(residual)


def _waits(residual, slope, side, level):
    """By how much λ may fall before each row crosses ±λ, inf for never; the sign of its shift."""
    with np.errstate(divide="ignore", invalid="ignore"):
        up, down = (level - residual) / (1 + slope), (level + residual) / (1 - slope)
        up[1 + slope <= 0] = np.inf
        down[1 - slope <= 0] = np.inf
        closing = 1 + side * slope  # of a row with a shift: how fast λ gains on it, if negative
        back = np.where(closing < 0, (level - side * residual) / closing, np.inf)
    wait = np.where(side == 0, np.minimum(up, down), back)
    return np.maximum(wait, 0), np.where(side == 0, np.where(up <= down, 1.0, -1.0), side)


def group_huber_path(X, Y, weights=None, *, lambdas=20, lowest=0.05, sweeps=30, tolerance=3e-4):
    """The path for several responses, on a geometric grid of λ, by reweighted least squares.

    X (n, d) dense or sparse, Y (n, c). lambdas: number of points from the largest λ down to
    `lowest` times it. At each, weights min(1, λ/‖r_i‖) until all ‖r‖ move by less than
    `tolerance` of themselves: the loss never rises. Entries are interpolated between the points,
    so they do not tie.
    """
    weights = np.ones(len(Y)) if weights is None else weights
    if sparse.issparse(X):
        Z, T = sparse.csr_array(X), None
    else:
        Z, T = basis(X, weights)
    c = _least_squares(Z, Y, weights, np.zeros((Z.shape[1], Y.shape[1])))
    size = linalg.norm(Y - Z @ c, axis=1)
    levels = size.max() * np.geomspace(1, lowest, lambdas)
    entry, knots, before, level_before = np.zeros(len(Y)), [], size, levels[0]
    for level in levels:
        for _ in range(sweeps):
            with np.errstate(divide="ignore"):
                down = np.minimum(1, level / size)
            c = _least_squares(Z, Y, weights * down, c)
            old, size = size, linalg.norm(Y - Z @ c, axis=1)
            if linalg.norm(size - old) <= tolerance * linalg.norm(size):
                break
        fresh = (size > level) & (entry == 0)
        slack, over = level_before - before[fresh], size[fresh] - level
        part = np.clip(slack / np.maximum(slack + over, 1e-300), 0, 1)
        entry[fresh] = level_before + part * (level - level_before)
        before, level_before = size, level
        knots.append(c if T is None else T @ c)
    return ShiftPath(levels, np.array(knots), entry, size)


def _least_squares(Z, Y, weights, start):
    """Weighted least squares; of sparse Z by conjugate gradients from `start`, per response."""
    if not sparse.issparse(Z):
        WZ = weights[:, None] * Z
        return np.linalg.solve(WZ.T @ Z, WZ.T @ Y)
    gram = (Z.T @ sparse.diags_array(weights) @ Z).tocsr()
    scale = sparse.diags_array(1 / np.maximum(gram.diagonal(), 1e-300))
    right = Z.T @ (weights[:, None] * Y)
    columns = zip(right.T, start.T, strict=True)
    return np.column_stack(
        [cg(gram, target, x0, rtol=1e-8, maxiter=1000, M=scale)[0] for target, x0 in columns]
    )
