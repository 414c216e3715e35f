"""Rankings from pairwise comparisons, some of which are wrong; HodgeRank.

A comparison (i, j, y) says s_i − s_j = y + γ + ε, which is the mean-shift model on the incidence
matrix of a graph: nothing dense is built. Without γ it is HodgeRank (Jiang, Lim, Yao, Ye 2011);
with it, comparisons that enter the path first contradict the others (Xu et al. 2014). With ±1 for
answers the gain over least squares is small; with graded answers it is large.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg, lsqr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from optim_torch.robust import pictures
from optim_torch.robust.huber_path import group_huber_path, huber_path
from optim_torch.robust.mean_shift import criterion

EXACT = 50  # items up to which the path has all its knots
CANDIDATES = 20  # values of λ that the criterion compares


@dataclass(frozen=True, eq=False)
class Hodge:
    """A flow on the edges of a comparison graph, split into three orthogonal ones.

    items (n,), scores (n,) of mean 0. edges (e, 2): codes i < j; flow, weights, gradient, curl,
    harmonic (e,): flow is their sum, s_i − s_j the gradient, curl what triangles hold (local
    contradictions), harmonic the rest (long cycles).
    """

    items: np.ndarray
    scores: np.ndarray
    edges: np.ndarray
    flow: np.ndarray
    weights: np.ndarray
    gradient: np.ndarray
    curl: np.ndarray
    harmonic: np.ndarray

    @property
    def shares(self):
        """Share of each part in the weighted square of the flow (dict)."""
        parts = {"gradient": self.gradient, "curl": self.curl, "harmonic": self.harmonic}
        whole = self.weights @ self.flow**2
        return {name: float(self.weights @ part**2 / whole) for name, part in parts.items()}


def hodge(pairs, y=None, sample_weight=None):
    """The `Hodge` decomposition of comparisons; those of the same two items are averaged first."""
    items, codes, y, weights = _checked(pairs, y, sample_weight)
    low, high = codes.min(1), codes.max(1)
    signed = np.where(codes[:, 0] < codes[:, 1], y, -y)
    edges, edge = np.unique(np.column_stack([low, high]), axis=0, return_inverse=True)
    total = np.bincount(edge.ravel(), weights)
    flow = np.bincount(edge.ravel(), weights * signed) / total
    C = _incidence(edges, len(items))
    scores = _potential(C, flow, total)
    gradient = C @ scores
    loops = _triangles(edges, len(items))
    root = np.sqrt(total)
    columns = sparse.diags_array(1 / root) @ loops.T
    circulation = lsqr(columns, root * (flow - gradient), atol=1e-14, btol=1e-14)[0]
    curl = columns @ circulation / root
    harmonic = flow - gradient - curl
    return Hodge(items, scores, edges, flow, total, gradient, curl, harmonic)


class RobustRanker(BaseEstimator):
    """Scores of items from comparisons, and which comparisons contradict the others.

    threshold: λ in units of y, or "bic" as in `MeanShiftRegressor`. Scores are of least squares on
    the comparisons that stay. Up to EXACT items the path is exact, beyond on a grid.
    Pairs are no feature matrix, so that scikit-learn's checks of estimators do not apply.

    After `fit(pairs, y)`: items_, scores_ (mean 0), ranking_ (items, best first), outlier_ (mask of
    comparisons), shift_ (γ), entry_, order_ (comparisons, most contradictory first), threshold_,
    inconsistency_ (share of y² that no scores explain), annotator_error_ (dict: share of each
    annotator's comparisons that are outliers).
    """

    def __init__(self, threshold="bic"):
        self.threshold = threshold

    def fit(self, pairs, y=None, *, sample_weight=None, annotators=None):
        """pairs (m, 2) of any names; y (m,): by how much the first is above the second, 1 if None.

        ValueError for items that no chain of comparisons connects, or not without those that a
        given threshold leaves out.
        """
        self.items_, codes, y, weights = _checked(pairs, y, sample_weight)
        if self.threshold != "bic" and not self.threshold > 0:
            raise ValueError(f"threshold {self.threshold!r}: 'bic' or a number above 0")
        C = _incidence(codes, len(self.items_))
        path = _path(C, y, weights, self.threshold)
        self.entry_, self.order_ = path.entry, path.order
        residual = y - C @ _potential(C, y, weights)
        whole = weights @ y**2
        self.inconsistency_ = float(weights @ residual**2 / whole) if whole > 0 else 0.0
        self.threshold_, out = self._choice(C, y, weights, path)
        self.scores_ = _potential(C, y, weights * ~out)
        self.outlier_, self.shift_ = out, np.where(out, y - C @ self.scores_, 0)
        self.ranking_ = self.items_[np.argsort(-self.scores_, kind="stable")]
        self.annotator_error_ = {}
        if annotators is not None:
            names = np.asarray(annotators)
            self.annotator_error_ = {
                name: float(out[names == name].mean()) for name in np.unique(names).tolist()
            }
        return self

    def predict(self, pairs):
        """Differences of scores (m,): positive where the first of a pair is better."""
        check_is_fitted(self)
        pairs = np.asarray(pairs)
        at = np.searchsorted(self.items_, pairs).clip(max=len(self.items_) - 1)
        if (self.items_[at] != pairs).any():
            unknown = pairs[self.items_[at] != pairs][0]
            raise ValueError(f"item {unknown} was in no comparison")
        return self.scores_[at[:, 0]] - self.scores_[at[:, 1]]

    def plot_path(self, *, ax=None):
        """Draw at which λ the comparisons enter, first ones first. Returns ax."""
        check_is_fitted(self)
        ax = pictures.entries(self.entry_, self.order_, "comparison", ax)
        ax.axhline(self.threshold_, color="grey", ls=":")
        return ax

    def _choice(self, C, y, weights, path):
        """(λ, mask of the comparisons shifted there)."""
        if self.threshold != "bic":
            return self._given(C, y, path)
        free = weights.sum() - C.shape[1] + 1
        none = path.lambdas[0], np.zeros(len(y), bool)
        if free <= 0 or path.lambdas[0] <= 0:  # a tree: every comparison is needed
            return none
        tried = np.unique(np.linspace(0, len(path.lambdas) - 1, CANDIDATES).astype(int))
        floor = np.finfo(float).eps * (weights @ y**2)
        best, chosen = np.inf, none
        for at in tried:
            level, b = path.lambdas[at], path.coefficients[at].ravel()
            out = np.abs(y - C @ b) > level * (1 + 1e-6)
            k = weights[out].sum()
            if _components(C[~out])[0] > 1 or k > weights.sum() / 2:
                continue
            residual = (y - C @ _potential(C, y, weights * ~out))[~out]
            score = criterion(max(weights[~out] @ residual**2, floor), k, free)
            if score < best:
                best, chosen = score, (level, out)
        return chosen

    def _given(self, C, y, path):
        """As `_choice`, at the λ that is given."""
        level = float(self.threshold)
        out = np.abs(y - C @ path.coefficients[-1].ravel()) > level * (1 + 1e-6)
        if _components(C[~out])[0] > 1:
            raise ValueError(
                f"threshold {level:g} leaves {out.sum()} of {len(y)} comparisons out, and the "
                "items fall apart: give a larger one"
            )
        return level, out


def _checked(pairs, y, sample_weight):
    """(items, codes (m, 2), y, weights); ValueError for what is no set of comparisons."""
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise ValueError(f"pairs of shape {pairs.shape}: must be (comparisons, 2)")
    items, codes = np.unique(pairs, return_inverse=True)
    codes = codes.reshape(pairs.shape)
    if (codes[:, 0] == codes[:, 1]).any():
        same = items[codes[codes[:, 0] == codes[:, 1]][0, 0]]
        raise ValueError(f"item {same} is compared with itself")
    y = np.ones(len(pairs)) if y is None else np.asarray(y, float)
    weights = np.ones(len(pairs)) if sample_weight is None else np.asarray(sample_weight, float)
    for name, values in (("y", y), ("sample_weight", weights)):
        if values.shape != (len(pairs),) or not np.isfinite(values).all():
            raise ValueError(f"{name} must hold one finite number a comparison, no NaN")
    if (weights <= 0).any():
        raise ValueError("sample_weight must be above 0: leave other comparisons out")
    C = _incidence(codes, len(items))
    count, part = _components(C)
    if count > 1:
        groups = [", ".join(map(str, items[part == k][:3].tolist())) for k in range(2)]
        raise ValueError(
            f"the items fall into {count} groups that nothing compares: {groups[0]} ... and "
            f"{groups[1]} ...; rank them apart"
        )
    return items, codes, y, weights


def _incidence(codes, n):
    """(m, n): 1 at the first item of a comparison, −1 at the second."""
    m = len(codes)
    values, rows = np.tile([1.0, -1.0], m), np.repeat(np.arange(m), 2)
    return sparse.csr_array((values, (rows, codes.ravel())), shape=(m, n))


def _components(C):
    """How many groups of items there are, and the group of each."""
    return connected_components(C.T @ C, directed=False)


def _potential(C, y, weights):
    """Scores of mean 0 by weighted least squares: a graph Laplacian, by conjugate gradients."""
    laplacian = (C.T @ sparse.diags_array(weights) @ C).tocsr()
    scale = sparse.diags_array(1 / np.maximum(laplacian.diagonal(), 1e-300))
    scores, _ = cg(laplacian, C.T @ (weights * y), rtol=1e-12, M=scale, maxiter=20_000)
    return scores - scores.mean()


def _path(C, y, weights, threshold):
    until = 0.0 if threshold == "bic" else float(threshold)
    if C.shape[1] <= EXACT:
        share = 0.5 if threshold == "bic" else 1.0
        return huber_path(C.toarray(), y, weights, until=until, share=share)
    if threshold == "bic":
        return group_huber_path(C, y[:, None], weights)
    top = np.abs(y - C @ _potential(C, y, weights)).max()
    lowest = min(until / top, 1.0) if top > 0 else 1.0
    return group_huber_path(C, y[:, None], weights, lowest=lowest)


def _triangles(edges, n):
    """(t, e): each triangle i < j < k of edges as the loop i → j → k → i, signs of its edges."""
    code = edges[:, 0] * n + edges[:, 1]  # sorted, as edges are
    first = np.searchsorted(edges[:, 0], np.arange(n + 1))
    counts = np.diff(first)[edges[:, 1]]  # edges that go on from j
    ij = np.repeat(np.arange(len(edges)), counts)
    offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    jk = first[edges[ij, 1]] + offset
    wanted = edges[ij, 0] * n + edges[jk, 1]
    ik = np.searchsorted(code, wanted).clip(max=len(code) - 1)
    closed = code[ik] == wanted
    loops = np.column_stack([ij, jk, ik])[closed]
    t = len(loops)
    values, rows = np.tile([1.0, 1.0, -1.0], t), np.repeat(np.arange(t), 3)
    return sparse.csr_array((values, (rows, loops.ravel())), shape=(t, len(edges)))
