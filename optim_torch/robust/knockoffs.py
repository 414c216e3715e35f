"""Knockoffs: choose features so that at most a share q of those chosen is wrong, on average.

Every column of X gets a copy with the same correlations to all others that knows nothing of y. A
statistic of the pair, W_j, is positive where the column does better than its copy; among columns
without effect its sign is a fair coin, so the negative ones count the wrong among the positive.

Fixed-X: Barber & Candès 2015, "Controlling the false discovery rate via knockoffs" (linear model
with Gaussian noise, n ≥ 2d + 1). Second-order Gaussian: Candès, Fan, Janson, Lv 2018, "Panning for
gold" (any model of y, Gaussian X whose covariance is estimated).
"""

import numpy as np
from scipy.linalg import eigh
from sklearn.base import BaseEstimator
from sklearn.covariance import LedoitWolf
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import lars_path
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from optim_torch.robust.linear import lbi


def knockoff_threshold(W, q, offset=1):
    """min{t > 0 : (offset + #{W ≤ −t}) / max(#{W ≥ t}, 1) ≤ q}, or inf.

    offset 1 (knockoff+) controls the false discovery rate, 0 a modified one.
    """
    for t in np.unique(np.abs(W[W != 0])):
        if (offset + np.count_nonzero(t <= -W)) <= q * max(np.count_nonzero(t <= W), 1):
            return t
    return np.inf


def symmetric_root(matrix):
    """The positive semidefinite root; negative eigenvalues count as rounding of zero."""
    values, vectors = eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def fixed_x(X, random):
    """Copies of X (n, d), whose columns have mean 0 and norm 1; random: a RandomState.

    X̃'X̃ = X'X = Σ, X'X̃ = Σ − sI and s = min(2 λ_min(Σ), 1). ValueError: n < 2d + 1, or rank below d.
    """
    n, d = X.shape
    if n < 2 * d + 1:
        raise ValueError(f"fixed-X knockoffs need 2d + 1 = {2 * d + 1} rows; n_samples = {n}")
    gram = X.T @ X
    least = eigh(gram, eigvals_only=True)[0]
    if least < 1e-10:
        raise ValueError("fixed-X knockoffs need columns that are linearly independent")
    s = min(2 * least, 1)
    inverse = np.linalg.inv(gram)
    outside = orthogonal_complement(np.column_stack([np.ones(n), X]), d, random)
    return X - s * X @ inverse + outside @ symmetric_root(2 * s * np.eye(d) - s**2 * inverse)


def orthogonal_complement(A, k, random):
    """k orthonormal columns, orthogonal to those of A and otherwise random."""
    filled = np.column_stack([A, random.standard_normal((len(A), k))])
    return np.linalg.qr(filled)[0][:, A.shape[1] :]


def gaussian(X, covariance, random):
    """Copies of X (n, d) with rows N(0, covariance): Cov(X̃) = Cov(X), Cov(X, X̃) = that − S.

    S = diag(s σ²) and s = min(2 λ_min of the correlations, 1).
    """
    shrunk = gaussian_gap(covariance)
    turned = np.linalg.solve(covariance, np.diag(shrunk))
    spread = 2 * np.diag(shrunk) - np.diag(shrunk) @ turned
    noise = random.standard_normal(X.shape) @ symmetric_root(spread)
    return X - X @ turned + noise


def gaussian_gap(covariance):
    """The diagonal of S in `gaussian`, a hair below where the joint covariance turns singular."""
    deviations = np.sqrt(np.diag(covariance))
    least = eigh(covariance / np.outer(deviations, deviations), eigvals_only=True)[0]
    return min(2 * least, 1) * (1 - 1e-9) * deviations**2


def lasso_entry(X, y):
    """The penalty at which each column enters the path of the lasso, 0 if never; y centred."""
    penalties, _, path = lars_path(X, y, method="lasso", max_iter=20 * X.shape[1])
    on = path != 0
    return np.where(on.any(axis=1), penalties[np.maximum(on.argmax(axis=1) - 1, 0)], 0)


def lbi_entry(X, y, kappa=10.0, until=30.0):
    """1/time at which each column enters the path of LBI, 0 if not in `until` first entries."""
    largest = np.abs(X.T @ y).max() / len(y)
    if largest == 0:
        return np.zeros(X.shape[1])
    return largest / lbi(X, y / largest, kappa=kappa, until=until, every=10**9).entry


ENTRIES = {"lasso": lasso_entry, "lbi": lbi_entry}


class Knockoffs(SelectorMixin, BaseEstimator):
    """Feature selection with a bound q on the false discovery rate.

    construction: "fixed" or "gaussian". statistic: "lasso" or "lbi", the time of entry on the path
    of [X, X̃]: W = max(Z, Z̃) sign(Z − Z̃). offset: see `knockoff_threshold`.
    Fitted: W_ (d,), threshold_, knockoffs_ (n, d) of the columns with mean 0 and norm 1. Columns
    that are constant have W = 0.
    """

    def __init__(self, q=0.1, construction="fixed", statistic="lasso", offset=1, random_state=None):
        self.q = q
        self.construction = construction
        self.statistic = statistic
        self.offset = offset
        self.random_state = random_state

    def fit(self, X, y):
        """X (n, d), y (n,); returns self."""
        if not 0 < self.q < 1:
            raise ValueError(f"q {self.q}: must lie between 0 and 1")
        if self.statistic not in ENTRIES or self.construction not in ("fixed", "gaussian"):
            raise ValueError(
                f"statistic {self.statistic!r} and construction {self.construction!r}: must be "
                "'lasso' or 'lbi', and 'fixed' or 'gaussian'"
            )
        X, y = validate_data(self, X, y, y_numeric=True, ensure_min_samples=2, dtype=np.float64)
        sizes = np.linalg.norm(X, axis=0)
        random = check_random_state(self.random_state)
        X, y = X - X.mean(0), y - y.mean()
        norms = np.linalg.norm(X, axis=0)
        varies = norms > 1e-10 * sizes
        if not varies.any():
            raise ValueError("every column of X is constant")
        unit = X[:, varies] / norms[varies]
        copies = self._copies(unit, random)
        both = np.sqrt(len(X)) * np.column_stack([unit, copies])
        own, of_copy = np.split(ENTRIES[self.statistic](both, y), 2)
        self.W_ = np.zeros(X.shape[1])
        self.W_[varies] = np.maximum(own, of_copy) * np.sign(own - of_copy)
        self.knockoffs_ = np.zeros(X.shape)
        self.knockoffs_[:, varies] = copies
        self.threshold_ = knockoff_threshold(self.W_, self.q, self.offset)
        return self

    def _copies(self, unit, random):
        if self.construction == "fixed":
            return fixed_x(unit, random)
        copies = gaussian(unit, LedoitWolf(assume_centered=True).fit(unit).covariance_, random)
        return copies - copies.mean(0)

    def _get_support_mask(self):
        check_is_fitted(self)
        return self.threshold_ <= self.W_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
