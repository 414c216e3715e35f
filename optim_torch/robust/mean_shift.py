"""Linear regression that says which rows it does not believe: y = X b + γ + ε, sparse γ."""

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from optim_torch.robust import pictures, residuals
from optim_torch.robust.huber_path import ShiftPath, basis, huber_path
from optim_torch.robust.linear import soft

CANDIDATES = 100  # values of λ that the criterion compares
GRID = 50  # values of λ on a path without closed form
LEAST_COST = 7.0  # of a row: leaving out half of a normal sample earns up to 6.4 for each
RIDGE = 0.5  # elastic net: λ|γ| + RIDGE γ²/2
DAMPING = 20.0  # of LBI, κ in units of the largest residual
SCAD, MCP = 3.7, 3.0  # where their thresholds end, in λ (Fan and Li 2001; Zhang 2010)


def scad(r, level):
    """Smoothly clipped absolute deviation: soft up to 2 λ, unchanged beyond SCAD λ."""
    between = ((SCAD - 1) * r - np.sign(r) * SCAD * level) / (SCAD - 2)
    outer = np.where(np.abs(r) <= SCAD * level, between, r)
    return np.where(np.abs(r) <= 2 * level, soft(r, level), outer)


def mcp(r, level):
    """Minimax concave penalty: soft, steeper, unchanged beyond MCP λ."""
    return np.where(np.abs(r) <= MCP * level, soft(r, level) / (1 - 1 / MCP), r)


THRESHOLDS = {
    "l1": soft,
    "elasticnet": lambda r, level: soft(r, level) / (1 + RIDGE),
    "scad": scad,
    "mcp": mcp,
    "hard": lambda r, level: np.where(np.abs(r) > level, r, 0.0),
}


PENALTIES = (*THRESHOLDS, "lbi")


class MeanShiftRegressor(RegressorMixin, BaseEstimator):
    """Least squares in which rows may be shifted, and pay for it.

    penalty: "l1" (Huber's regression, exact path), "elasticnet", or, not convex, "scad", "mcp",
    "hard": these start from least trimmed squares and weigh λ by √(1 − hat value), so that they
    also see outliers at leverage points, which pull a convex fit to themselves (masking). "lbi":
    linearised Bregman iteration at λ = 1/time, where rows that have entered are not shrunk: b is
    nearly the least-squares fit of the others.
    threshold: λ in units of y, or "bic": of all λ on the path that leave half of the rows, the one
    with the least m log(RSS/m) + (k+1) max(log m + 1, LEAST_COST), m = n − d, k rows shifted, RSS
    of a refit without them. Where outliers at leverage points agree among themselves and are many,
    it may prefer them to the rest: look at the path. random_state: of least trimmed squares.

    After `fit`: coef_, intercept_, shift_ (γ), outlier_ (mask), threshold_ (λ), path_
    (`ShiftPath`; coefficients with the intercept last), entry_ (λ at which a row
    is first shifted), order_ (rows, first to enter first), leverage_ (hat values), studentised_
    (residuals studentised by deletion, which outliers mask from each other).
    Columns that depend on others get the fit of least norm. She and Owen 2011.
    """

    def __init__(self, penalty="l1", threshold="bic", fit_intercept=True, random_state=None):
        self.penalty = penalty
        self.threshold = threshold
        self.fit_intercept = fit_intercept
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """X (n, d), y (n,), sample_weight (n,): weights count as repeated rows, 0 as none."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        y = y.astype(np.float64)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty {self.penalty!r}: one of {', '.join(PENALTIES)}")
        if self.threshold != "bic" and not self.threshold > 0:
            raise ValueError(f"threshold {self.threshold!r}: 'bic' or a number above 0")
        part = weights > 0
        if not part.any():
            raise ValueError("all sample weights are zero")
        mean = np.average(X, axis=0, weights=weights) * bool(self.fit_intercept)
        design = np.column_stack([X - mean, np.ones(len(X))]) if self.fit_intercept else X
        fitted = design[part], y[part], weights[part]
        path = self._path(*fitted)
        at, self.threshold_ = self._choice(*fitted, path)
        b = path.coefficients
        if self.fit_intercept:  # of the columns as given
            b = np.column_stack([b[:, :-1], b[:, -1] - b[:, :-1] @ mean])
        entry, last = _spread(path.entry, part), _spread(path.residuals, part)
        self.path_ = ShiftPath(path.lambdas, b, entry, last)
        self.entry_, self.order_ = entry, self.path_.order
        self.coef_, self.intercept_ = b[at, : X.shape[1]], b[at, -1] if self.fit_intercept else 0.0
        self.leverage_ = _spread((basis(*fitted[::2])[0] ** 2).sum(1), part)
        self.shift_ = self._shifts(y - self.predict(X), self.threshold_, self.leverage_, entry)
        self.outlier_ = self.shift_ != 0
        self.studentised_ = _spread(residuals.studentised(*fitted)[0], part)
        return self

    def predict(self, X):
        """X b + intercept, (n,)."""
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64) @ self.coef_ + self.intercept_

    def plot_path(self, X, y, *, rows=10, ax=None):
        """Draw the shifts of the first `rows` rows to enter over λ; X, y: as fitted. Returns ax."""
        check_is_fitted(self)
        ax = pictures.axes(ax)
        chosen, b = self.order_[:rows], self.path_.coefficients
        fitted = np.asarray(X)[chosen] @ b[:, : len(self.coef_)].T
        fitted += b[:, -1] if self.fit_intercept else 0
        shifts = self._shifts(
            np.asarray(y)[chosen, None] - fitted,
            self.path_.lambdas,
            self.leverage_[chosen, None],
            self.entry_[chosen, None],
        )
        for row, line in zip(chosen, shifts, strict=True):
            ax.plot(self.path_.lambdas, line, label=f"row {row}")
        ax.axvline(self.threshold_, color="grey", ls=":")
        ax.set(xlabel="λ", ylabel="shift γ", xscale="log")
        ax.invert_xaxis()
        return ax

    def _scale(self, leverage):
        """What λ is multiplied by, per row."""
        if self.penalty in ("l1", "elasticnet", "lbi"):
            return np.ones(np.shape(leverage))
        return np.sqrt(np.clip(1 - leverage, 0, 1))

    def _shifts(self, residual, level, leverage, entry):
        """γ at λ = level of rows with these residuals, hat values and entries."""
        if self.penalty == "lbi":
            return np.where(entry >= level, residual, 0.0)
        return THRESHOLDS[self.penalty](residual, level * self._scale(leverage))

    def _path(self, X, y, weights):
        if self.penalty == "l1":
            until = 0.0 if self.threshold == "bic" else float(self.threshold)
            return huber_path(X, y, weights, until=until, share=0.5 if until == 0 else 1.0)
        Z, T = basis(X, weights)
        scale = self._scale((Z**2).sum(1))
        c = Z.T @ (weights * y)
        if self.penalty not in ("elasticnet", "lbi"):
            random = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
            c = residuals.least_trimmed_squares(Z, y, weights, random)
        ratio = np.abs(y - Z @ c) / np.maximum(scale, 1e-8)
        top = ratio.max()
        if top <= 1e-12 * np.abs(y).max(initial=0):
            return ShiftPath(np.zeros(1), (T @ c)[None], np.zeros(len(y)), np.abs(y - Z @ c))
        lambdas = np.geomspace(top, max(np.median(ratio), 1e-3 * top), GRID)
        if self.threshold != "bic":
            lambdas = np.append(lambdas[lambdas > self.threshold], self.threshold)
        if self.penalty == "lbi":
            entry, knots = lbi_path(Z, y, weights, lambdas, DAMPING * top)
            return ShiftPath(lambdas, knots @ T.T, entry, np.abs(y - Z @ knots[-1]))
        entry, knots = np.zeros(len(y)), []
        for level in lambdas:
            start = c if not knots or self.penalty != "elasticnet" else knots[-1]
            b, shift = iterate(Z, y, weights, THRESHOLDS[self.penalty], level * scale, start)
            entry[(shift != 0) & (entry == 0)] = level
            knots.append(b)
        return ShiftPath(lambdas, np.array(knots) @ T.T, entry, np.abs(y - Z @ knots[-1]))

    def _choice(self, X, y, weights, path):
        """(index of the chosen knot, its λ)."""
        if self.threshold != "bic":
            return len(path.lambdas) - 1, float(self.threshold)
        Z, _ = basis(X, weights)
        scale, free = self._scale((Z**2).sum(1)), weights.sum() - Z.shape[1]
        tried = np.unique(np.linspace(0, len(path.lambdas) - 1, CANDIDATES).astype(int))
        floor = (np.finfo(float).eps * np.sqrt((weights * y**2).sum())) ** 2 + 1e-300
        scores = []
        for at in tried:
            residual = np.abs(y - X @ path.coefficients[at])
            out = residual > path.lambdas[at] * scale * (1 + 1e-9)
            if self.penalty == "lbi":
                out = path.entry >= path.lambdas[at]
            k = weights[out].sum()
            if k > weights.sum() / 2 or free <= 0:
                scores.append(np.inf)
                continue
            root = np.sqrt(weights[~out])
            target = root * y[~out]
            fit = linalg.lstsq(root[:, None] * Z[~out], target)[0]
            rss = max(((target - root * (Z[~out] @ fit)) ** 2).sum(), floor)
            scores.append(criterion(rss, k, free))
        best = tried[int(np.argmin(scores))]
        return best, float(path.lambdas[best])


def criterion(rss, k, free):
    """What the choice of λ minimises: `rss` of a refit without the k rows that are shifted.

    free: weight of all rows minus the rank. She and Owen's BIC, with a least cost for few rows.
    """
    return free * np.log(rss / free) + (k + 1) * max(np.log(free) + 1, LEAST_COST)


def iterate(Z, y, weights, threshold, levels, c, *, most=1000, tolerance=1e-10):
    """(c, γ): least squares on y − γ and thresholds of the residuals in turn (Θ-IPOD).

    Z: orthonormal in the weights. Each round lowers the penalised loss or keeps it.
    """
    shift = threshold(y - Z @ c, levels)
    for _ in range(most):
        old, c = c, Z.T @ (weights * (y - shift))
        shift = threshold(y - Z @ c, levels)
        if linalg.norm(c - old) <= tolerance * linalg.norm(c):
            break
    return c, shift


def lbi_path(Z, y, weights, lambdas, kappa):
    """(entry (n,) as in `ShiftPath`, c (K, d) at each of `lambdas`, falling): LBI of the shifts.

    With b eliminated, V ← V + α r and γ ← κ soft(V, 1), r the residual of least squares on y − γ;
    α = 1/κ, half of the largest stable step, and λ is 1/time. Osher et al. 2016.
    """
    dual, entry, knots = np.zeros(len(y)), np.zeros(len(y)), []
    records = np.ceil(kappa / lambdas).astype(int)
    for step in range(records[-1] + 1):
        shift = kappa * soft(dual, 1.0)
        entry[(shift != 0) & (entry == 0)] = kappa / max(step, 1)
        c = Z.T @ (weights * (y - shift))
        knots += [c] * np.count_nonzero(records == step)
        dual = dual + (y - shift - Z @ c) / kappa
    return entry, np.array(knots)


def _spread(values, part):
    """Values of the rows of positive weight among all; the others have 0."""
    whole = np.zeros(len(part))
    whole[part] = values
    return whole
