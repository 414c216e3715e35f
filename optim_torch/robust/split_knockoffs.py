"""Split knockoffs: which of the differences Dβ are not zero, with a bound on the wrong ones.

y = Xβ + ε with γ = Dβ (m,) sparse. One part of the rows gives β̂; the rest compare each row of D
with a copy in the relaxed model of ‖y − Xβ‖²/2n + ‖Dβ − γ‖²/2ν. For a β̂ that is fixed, the paths of
γ and of its copies are soft thresholding, since both Gram matrices are I/ν: with the residual e
their entries are Z = |A_γ'e| = |Dβ̂|/ν and Z̃ = |Ã_γ'e|. No path is computed.

Cao, Sun, Yao 2024, "Controlling the false discovery rate in transformational sparsity: split
knockoffs". W = Z sign(Z − Z̃) need not be symmetric in Z and Z̃: Z comes from the other rows.
"""

import math

import numpy as np
from scipy import sparse
from scipy.linalg import eigh
from sklearn.base import BaseEstimator
from sklearn.linear_model import lasso_path
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from optim_torch.robust.bregman_path import split_limit
from optim_torch.robust.knockoffs import (
    knockoff_threshold,
    orthogonal_complement,
    symmetric_root,
)


def relaxed_design(X, D, nu):
    """A_β (n + m, d) and A_γ (n + m, m) of the relaxed model."""
    m = len(D)
    A_beta = np.vstack([X / math.sqrt(len(X)), D / math.sqrt(nu)])
    return A_beta, np.vstack([np.zeros((len(X), m)), -np.eye(m) / math.sqrt(nu)])


def split_copies(X, D, nu, random):
    """Ã_γ (n + m, m) of centred X (n, d) and D (m, d); random: a RandomState.

    Ã_γ'Ã_γ = A_γ'A_γ, A_β'Ã_γ = A_β'A_γ and A_γ'Ã_γ = A_γ'A_γ − sI. ValueError: n < d + m + 1.
    """
    n, d = X.shape
    m = len(D)
    if n < d + m + 1:
        raise ValueError(
            f"split knockoffs need d + m + 1 = {d + m + 1} rows in their second part; it has {n}"
        )
    A_beta, A_gamma = relaxed_design(X, D, nu)
    solved = np.linalg.lstsq(A_beta.T @ A_beta, A_beta.T @ A_gamma)[0]
    C = np.eye(m) / nu - A_gamma.T @ A_beta @ solved
    least = eigh(C, eigvals_only=True)[0]
    if least < 1e-12 / nu:
        raise ValueError("split knockoffs need columns that are linearly independent")
    s = min(2 * least, 1 / nu)
    inverse = np.linalg.inv(C)
    outside = np.zeros((n + m, m))
    outside[:n] = orthogonal_complement(np.column_stack([np.ones(n), X]), m, random)
    root = symmetric_root(2 * s * np.eye(m) - s**2 * inverse)
    return A_gamma - s * A_gamma @ inverse + s * A_beta @ solved @ inverse + outside @ root


class SplitKnockoffs(BaseEstimator):
    """Selection of the rows of D with Dβ ≠ 0, and of their signs.

    D: (m, d), dense or sparse; None, the identity. nu: coupling, for columns of standard deviation
    1. fraction: share of the rows that β̂ is estimated from, by the split lasso with the penalty of
    a 5-fold cross-validation. statistic: "st" counts a copy only if its sign is that of γ, "s"
    always.
    Fitted: selected_ (m,), sign_ (m,), W_, threshold_, coef_ (d,), β̂ of the first part.
    """

    def __init__(
        self, D=None, q=0.1, nu=10.0, fraction=0.4, statistic="st", offset=1, random_state=None
    ):
        self.D = D
        self.q = q
        self.nu = nu
        self.fraction = fraction
        self.statistic = statistic
        self.offset = offset
        self.random_state = random_state

    def fit(self, X, y):
        """X (n, d), y (n,); returns self."""
        for name in ("q", "fraction"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: must lie between 0 and 1")
        if not 0 < self.nu < math.inf:
            raise ValueError(f"nu {self.nu}: must be positive and finite")
        if self.statistic not in ("s", "st"):
            raise ValueError(f"statistic {self.statistic!r}: must be 's' or 'st'")
        X, y = validate_data(self, X, y, y_numeric=True, ensure_min_samples=20, dtype=np.float64)
        D = np.eye(X.shape[1]) if self.D is None else self.D
        D = D.toarray() if sparse.issparse(D) else np.asarray(D, float)
        if D.ndim != 2 or D.shape[1] != X.shape[1]:
            raise ValueError(f"D {D.shape}: must have as many columns as X, {X.shape[1]}")
        random = check_random_state(self.random_state)
        order = random.permutation(len(X))
        first, second = np.split(order, [round(self.fraction * len(X))])
        self.coef_ = split_lasso(X[first], y[first], D, self.nu)
        X, y = X[second] - X[second].mean(0), y[second] - y[second].mean()
        copies = split_copies(X, D, self.nu, random)
        A_beta, A_gamma = relaxed_design(X, D, self.nu)
        residual = np.append(y / math.sqrt(len(X)), np.zeros(len(D))) - A_beta @ self.coef_
        own, of_copy = A_gamma.T @ residual, copies.T @ residual
        rival = np.abs(of_copy)
        if self.statistic == "st":
            rival = np.where(np.sign(of_copy) == np.sign(own), rival, 0)
        self.W_ = np.abs(own) * np.sign(np.abs(own) - rival)
        self.sign_ = np.sign(D @ self.coef_)
        self.threshold_ = knockoff_threshold(self.W_, self.q, self.offset)
        self.selected_ = self.threshold_ <= self.W_
        return self


def split_lasso(X, y, D, nu):
    """β (d,) that minimises the relaxed loss + λ‖γ‖₁, λ by 5-fold cross-validation of Xβ."""
    S, s, _ = split_limit(X - X.mean(0), y - y.mean(), D, nu)
    penalties = np.abs(S.T @ s / len(D)).max() * np.geomspace(1, 1e-3, 30)
    errors = 0
    for train, test in KFold(5).split(X):
        paths = split_lasso_path(X[train], y[train], D, nu, penalties)
        predicted = y[train].mean() + (X[test] - X[train].mean(0)) @ paths
        errors = errors + ((y[test, None] - predicted) ** 2).sum(0)
    return split_lasso_path(X, y, D, nu, penalties)[:, errors.argmin()]


def split_lasso_path(X, y, D, nu, penalties):
    """β (d, penalties). With β eliminated, γ is a lasso on the data of `split_limit`."""
    X, y = X - X.mean(0), y - y.mean()
    S, s, inverse = split_limit(X, y, D, nu)
    gamma = lasso_path(S, s, alphas=penalties)[1]
    return inverse @ (nu * (X.T @ y)[:, None] / len(X) + D.T @ gamma)
