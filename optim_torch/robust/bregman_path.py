"""Paths of LBI and split LBI for generalised linear models, groups and structural sparsity.

X (n, d) without a column of ones, Y (n, c), coefficients B (d, c), intercepts b (c,). The loss is a
mean over rows of a GLM with canonical link, so its gradient is X'S(μ(XB + b) − Y), S the diagonal
of the rows' shares, 1/n without weights. Paths start at the best intercepts alone, which move by
plain gradient steps and are not shrunk.

LBI: V ← V − α∇L(Γ), Γ ← κ prox(V), B = Γ. Split LBI, with D (m, d):
W ← W − κα(∇L(W) + D'(DW − Γ)/ν), V ← V + α(DW_old − Γ)/ν, Γ ← κ prox(V).
prox is that of the l1 norm or, with groups of rows, of the sum of the groups' norms.
Osher et al. 2016; Huang et al. 2016, "Split LBI". The limit κ → ∞ for least squares is exact.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, logit, softmax

from optim_torch.robust.linear import Path, iss, soft


@dataclass(frozen=True)
class Loss:
    """mean: scores (n, c) to expected Y. link: its inverse. curvature: bound of mean's slope."""

    mean: callable
    link: callable
    curvature: float


LOSSES = {
    "squared": Loss(lambda scores: scores, lambda mean: mean, 1.0),
    "logistic": Loss(expit, logit, 1 / 4),
    "multinomial": Loss(lambda scores: softmax(scores, axis=1), np.log, 1 / 2),
}


@dataclass(frozen=True, eq=False)
class GlmPath(Path):
    """Path with coefficients Γ and duals V (T, m, c), entry (m, c), and what predicts.

    dense (T, d, c): W, or Γ without a split. intercepts (T, c).
    """

    dense: np.ndarray
    intercepts: np.ndarray


def graph_differences(adjacency):
    """D (edges, d), sparse: differences along the edges of a graph, for fused coefficients.

    adjacency (d, d): symmetric, as scikit-learn's `grid_to_graph` and `kneighbors_graph` give it.
    """
    edges = sparse.triu(adjacency, k=1).tocoo()
    rows = np.arange(edges.nnz)
    shape = (edges.nnz, adjacency.shape[0])
    ones = np.ones(edges.nnz)
    return sparse.csr_array((ones, (rows, edges.row)), shape) - sparse.csr_array(
        (ones, (rows, edges.col)), shape
    )


def shrink(v, groups=None):
    """prox of the penalty at V (m, c): soft threshold 1 of entries, or of the norms of groups.

    groups (m,): group number of every row, from 0.
    """
    if groups is None:
        return soft(v, 1.0)
    norms = group_norms(v, groups)
    factors = np.maximum(0, 1 - 1 / np.maximum(norms, 1))
    return factors[groups, None] * v


def group_norms(v, groups):
    """The norm of each group of rows of V (m, c)."""
    return np.sqrt(np.bincount(groups, weights=(v**2).sum(1)))


def equal_shares(X):
    """1/n for each of the n rows."""
    return np.full(len(X), 1 / len(X))


def first_entry(X, Y, loss="squared", D=None, nu=None, groups=None, shares=None):
    """Time at which the first of Γ enters as κ → ∞; for split GLMs by their quadratic bound.

    shares (n,): of the rows, as in `glm_path`. Infinite where the gradient is zero.
    """
    shares = equal_shares(X) if shares is None else shares
    curvature, SX = LOSSES[loss].curvature, shares[:, None] * X
    gradient = SX.T @ (Y - shares @ Y)
    if nu is not None:
        A = curvature * nu * (SX.T @ X) + (np.eye(X.shape[1]) if D is None else D.T @ D)
        gradient = np.linalg.pinv(A, hermitian=True) @ gradient
        gradient = gradient if D is None else D @ gradient
    sizes = np.abs(gradient) if groups is None else group_norms(gradient, groups)
    return 1 / sizes.max() if sizes.max() > 0 else math.inf


def glm_path(X, Y, times, *, loss="squared", D=None, nu=None, groups=None, kappa=10.0, shares=None):
    """The path at `times` (ascending); see the head of this file.

    shares (n,): of the rows in the loss, 1 together; None for equal ones. nu: None is LBI, a number
    split LBI. D: None is the identity. kappa: infinite is exact ISS, for least squares without
    groups and Y (n, 1). The step α is half of the largest stable one.
    """
    shares = equal_shares(X) if shares is None else shares
    if math.isinf(kappa):
        return _exact(X, Y, shares, times, D, nu)
    SX, d = shares[:, None] * X, X.shape[1]
    terms = LOSSES[loss]
    D = _fast(D, d)
    curvature = terms.curvature * max(1, np.linalg.norm(SX.T @ X, 2))
    if nu is not None:
        curvature += (1 + _largest_eigenvalue(D)) / nu
    alpha = 1 / (kappa * curvature)
    intercepts = terms.link(shares @ Y)
    B, V = np.zeros((d, Y.shape[1])), np.zeros((D.shape[0], Y.shape[1]))
    gamma, entry = V, np.full(V.shape, np.inf)
    records = np.ceil(np.asarray(times) / alpha - 1e-9).astype(int)
    repeats = np.bincount(records)
    states = []
    for step, count in enumerate(repeats):
        states += [(gamma, V, B, intercepts)] * count
        residual = terms.mean(X @ B + intercepts) - Y
        gradient = SX.T @ residual
        intercepts = intercepts - kappa * alpha * (shares @ residual)
        if nu is None:
            V = V - alpha * gradient
            B = gamma = kappa * shrink(V, groups)
        else:
            pull = (D @ B - gamma) / nu
            B = B - kappa * alpha * (gradient + D.T @ pull)
            V = V + alpha * pull
            gamma = kappa * shrink(V, groups)
        if step + 1 < len(repeats):
            entry[(gamma != 0) & np.isinf(entry)] = (step + 1) * alpha
    coefficients, duals, dense, intercepts = (
        np.array(column) for column in zip(*states, strict=True)
    )
    return GlmPath(np.asarray(times), coefficients, duals, entry, dense, intercepts)


def _fast(D, d):
    """D, the identity for None; dense where it is small, sparse where that pays."""
    D = sparse.eye_array(d, format="csr") if D is None else D
    small = D.shape[0] * d <= 100_000
    return D.toarray() if sparse.issparse(D) and small else D


def _largest_eigenvalue(D):
    """Of D'D, from above: the largest row sum of |D'D|."""
    return np.abs(D.T @ D).sum(axis=1).max()


def split_limit(X, y, D, nu):
    """S (m, m) and s (m,), of a dense D, whose ISS is the path of Γ of split LBI for κ → ∞.

    V' = g − HΓ with A = νX'X/n + D'D, H = (I − DA⁺D')/ν, g = DA⁺X'y/n; S'S/m = H and S's/m = g.
    Also A⁺, for W = A⁺(νX'y/n + D'Γ).
    """
    m = len(D)
    inverse = np.linalg.pinv(nu * (X.T @ X) / len(X) + D.T @ D, hermitian=True)
    values, vectors = np.linalg.eigh((np.eye(m) - D @ inverse @ D.T) / nu)
    kept = values > 1e-12 * values[-1]
    roots = np.sqrt(m * np.where(kept, values, 0))
    g = vectors.T @ (D @ inverse @ (X.T @ y)) / len(X)
    return roots[:, None] * vectors.T, m * np.divide(g, roots, where=kept, out=0 * g), inverse


def _exact(X, Y, shares, times, D, nu):
    mean, root = shares @ Y[:, 0], np.sqrt(len(X) * shares)
    y, X = root * (Y[:, 0] - mean), root[:, None] * (X - shares @ X)
    D = np.eye(X.shape[1]) if D is None else D
    D = D.toarray() if sparse.issparse(D) else D
    S, s, inverse = (X, y, None) if nu is None else split_limit(X, y, D, nu)
    path = iss(S, s, until=times[-1])
    at = np.searchsorted(path.times, times, side="right") - 1
    gamma, rho = path.coefficients[at], path.duals[at]
    dense = gamma if nu is None else (nu * (X.T @ y) / len(X) + gamma @ D) @ inverse
    intercepts = np.full((len(at), 1), mean)
    return GlmPath(
        np.asarray(times),
        gamma[..., None],
        rho[..., None],
        path.entry[:, None],
        dense[..., None],
        intercepts,
    )
