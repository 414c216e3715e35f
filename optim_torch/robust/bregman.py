"""Linearised Bregman iteration and split LBI as estimators of scikit-learn.

The path runs on standardised data: columns of X to mean 0 and standard deviation 1 (unless
`standardize` is false: then to mean 0 alone; a constant column stays out), y of a regression
likewise. Its times are in units of 1/|gradient| there; `until` is in multiples of the first entry.
Where along the path to stop is chosen by cross-validation, among times at which there is a support.

LinearizedBregman: sparse coefficients. SplitLBI: W fits, Γ is sparse, and what predicts is W on the
support of Γ: its projection on {B : DB = 0 where Γ = 0}. MSplitLBI predicts with all of W: strong
signals (that projection) and the weak, dense rest (Zhao et al. 2018, "MSplit LBI").
"""

import math

import numpy as np
from scipy import sparse
from scipy.special import expit, softmax, xlogy
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from optim_torch.robust import pictures
from optim_torch.robust.bregman_path import first_entry, glm_path

TIMES = 60  # recorded along a path


class _PathEstimator(BaseEstimator):
    """What all of them share.

    Parameters: kappa, damping (infinite: the exact limit, for squared loss without groups). until,
    end of the path. groups: None, "columns" (a row of DB enters for all classes at once) or group
    numbers (m,). cv: folds, a splitter, or None for the end of the path. Of split ones also nu,
    the coupling, and D (m, d), None for the identity.
    Fitted: coef_, intercept_; time_, chosen, and loss_, its sum over the folds (squared error or
    negative log-likelihood; None without folds), which compares settings; path_ (GlmPath,
    standardised data); entry_ (m,), time at which each row of DB first enters; support_ (m,), which
    are in at time_; of split ones also coef_strong_ and coef_weak_, whose sum is W.
    """

    nu = D = None
    _weak = False  # does the weak part predict

    @property
    def _matrix(self):
        """D as an array, sparse or dense; None for the identity."""
        if self.D is None:
            return None
        return sparse.csr_array(self.D) if sparse.issparse(self.D) else np.asarray(self.D, float)

    def _fit(self, X, Y, loss, folds, sample_weight):
        """Path of all, path of each fold, choice; coefficients as (c, d)."""
        self._check(loss, X.shape[1])
        weights = _check_sample_weight(sample_weight, X, dtype=float, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("all sample weights are zero")
        D, groups = self._matrix, self._groups(X.shape[1])
        options = {"loss": loss, "D": D, "nu": self.nu, "groups": groups}
        Z, V, shares, scaler, size = self._standardised(X, Y, weights, loss)
        unit = first_entry(Z, V, **options, shares=shares)
        times = (unit if math.isfinite(unit) else 1.0) * np.geomspace(0.9, self.until, TIMES)
        options |= {"times": times, "kappa": self.kappa}
        path = glm_path(Z, V, **options, shares=shares)
        active = (path.coefficients != 0).any(axis=(1, 2))
        allowed = np.flatnonzero(active) if active.any() else np.array([TIMES - 1])
        chosen, self.loss_ = allowed[-1], None
        if folds is not None and len(allowed) > 1:
            losses = sum(self._losses(X, Y, weights, *fold, options) for fold in folds)
            chosen = allowed[losses[allowed].argmin()]
            self.loss_ = losses[chosen]
        gamma, dense = path.coefficients[chosen], path.dense[chosen]
        self.path_, self.time_ = path, times[chosen]
        self.entry_ = path.entry.min(axis=1)
        self.support_ = (gamma != 0).any(axis=1)
        strong, scale = on_support(dense, gamma, D), size / _scale(scaler)
        used = dense if self._weak else strong
        if self.nu is not None:
            self.coef_strong_, self.coef_weak_ = scale * strong.T, scale * (dense - strong).T
        self.coef_ = scale * used.T
        self.intercept_ = size * path.intercepts[chosen] - self.coef_ @ scaler.mean_
        return self

    def _losses(self, X, Y, weights, train, test, options):
        """Weighted sum of the losses on `test` at every time of the path of `train`."""
        Z, V, shares, scaler, size = self._standardised(
            X[train], Y[train], weights[train], options["loss"]
        )
        path, losses = glm_path(Z, V, **options, shares=shares), []
        for gamma, dense, intercepts in zip(
            path.coefficients, path.dense, path.intercepts, strict=True
        ):
            used = dense if self._weak else on_support(dense, gamma, options["D"])
            scores = size * (scaler.transform(X[test]) @ used + intercepts)
            losses.append(weights[test] @ LOSS_OF[options["loss"]](Y[test], scores))
        return np.array(losses)

    def _standardised(self, X, Y, weights, loss):
        """X and Y of the path, shares of the rows, the scaler of X, the size of Y."""
        scaler = StandardScaler(with_std=self.standardize).fit(X, sample_weight=weights)
        size = 1.0
        if loss == "squared":
            size = _scale(StandardScaler().fit(Y, sample_weight=weights)).item()
        return scaler.transform(X), Y / size, weights / weights.sum(), scaler, size

    def _groups(self, d):
        if isinstance(self.groups, str):
            return np.arange(d if self._matrix is None else self._matrix.shape[0])
        return None if self.groups is None else np.unique(self.groups, return_inverse=True)[1]

    def _check(self, loss, d):
        for name in ("kappa", "nu", "until"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} {value}: must be positive")
        if not 1 < self.until < math.inf:
            raise ValueError(f"until {self.until}: must be above 1, the first entry, and finite")
        if math.isinf(self.kappa) and (loss != "squared" or self.groups is not None):
            raise ValueError("kappa inf: exact for squared loss without groups only")
        if isinstance(self.groups, str) and self.groups != "columns":
            raise ValueError(f"groups {self.groups!r}: must be 'columns', numbers or None")
        D = self._matrix
        if D is not None and (D.ndim != 2 or D.shape[1] != d):
            raise ValueError(f"D {D.shape}: must have as many columns as X, {d}")
        m = d if D is None else D.shape[0]
        if self.groups is not None and not isinstance(self.groups, str) and len(self.groups) != m:
            raise ValueError(f"groups: {len(self.groups)} numbers, must be {m}")

    def plot_path(self, ax=None):
        """Draw the path over the logarithm of time, and where it was stopped; returns the axes."""
        check_is_fitted(self)
        ax = pictures.axes(ax)
        lines = self.path_.coefficients.reshape(len(self.path_.times), -1)
        ax.plot(self.path_.times, lines, drawstyle="steps-post", lw=1)
        ax.axvline(self.time_, color="black", ls=":", lw=1)
        ax.set(xscale="log", xlabel="time", ylabel="coefficient of standardised data")
        return ax


class _Regressor(RegressorMixin, _PathEstimator):
    def fit(self, X, y, sample_weight=None):
        """X (n, d), y (n,), sample_weight (n,), which counts as repeated rows; returns self."""
        X, y = validate_data(self, X, y, y_numeric=True, ensure_min_samples=2)
        X, y = X.astype(float), y.astype(float)
        folds = None if self.cv is None else check_cv(self.cv, y).split(X, y)
        self._fit(X, y[:, None], "squared", folds, sample_weight)
        for name in ("coef_", "coef_strong_", "coef_weak_"):
            if hasattr(self, name):
                setattr(self, name, getattr(self, name)[0])
        self.intercept_ = float(self.intercept_[0])
        return self

    def predict(self, X):
        """(n,)"""
        check_is_fitted(self)
        return validate_data(self, X, reset=False) @ self.coef_ + self.intercept_


class _Classifier(ClassifierMixin, _PathEstimator):
    def fit(self, X, y, sample_weight=None):
        """X (n, d), labels y (n,); logistic loss for two classes, else multinomial.

        sample_weight (n,) counts as repeated rows; each class needs some.
        """
        X, y = validate_data(self, X, y, ensure_min_samples=2)
        check_classification_targets(y)
        binarizer = LabelBinarizer().fit(y)
        self.classes_ = binarizer.classes_
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}; two are needed")
        Y = binarizer.transform(y).astype(float)
        loss = "logistic" if Y.shape[1] == 1 else "multinomial"
        folds = None
        if self.cv is not None:
            folds = check_cv(self.cv, y, classifier=True).split(X, y)
        return self._fit(X.astype(float), Y, loss, folds, sample_weight)

    def decision_function(self, X):
        """Scores (n, classes), of two classes (n,)."""
        check_is_fitted(self)
        scores = validate_data(self, X, reset=False) @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X):
        """(n, classes)"""
        return probabilities(self.decision_function(X))

    def predict(self, X):
        """(n,)"""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class LinearizedBregman(_Regressor):
    """Sparse regression by LBI."""

    def __init__(self, kappa=10.0, until=20.0, groups=None, standardize=True, cv=5):
        self.kappa = kappa
        self.until = until
        self.groups = groups
        self.standardize = standardize
        self.cv = cv


class LinearizedBregmanClassifier(_Classifier):
    """Sparse logistic or multinomial regression by LBI."""

    __init__ = LinearizedBregman.__init__


class SplitLBI(_Regressor):
    """Regression by split LBI with sparse DB; predicts with W on the support."""

    def __init__(self, nu=1.0, D=None, kappa=10.0, until=20.0, groups=None, standardize=True, cv=5):
        self.nu = nu
        self.D = D
        self.kappa = kappa
        self.until = until
        self.groups = groups
        self.standardize = standardize
        self.cv = cv


class SplitLBIClassifier(_Classifier):
    """The same for classes."""

    __init__ = SplitLBI.__init__


class MSplitLBI(SplitLBI):
    """Regression by split LBI with all of W: strong and weak signals."""

    _weak = True


class MSplitLBIClassifier(SplitLBIClassifier):
    """The same for classes."""

    _weak = True


def _scale(scaler):
    return np.ones_like(scaler.mean_) if scaler.scale_ is None else scaler.scale_


def on_support(dense, gamma, D=None):
    """The projection of W (d, c) on {B : DB = 0 where Γ (m, c) is 0}; D None is the identity."""
    if D is None:
        return np.where(gamma != 0, dense, 0)
    D = D.toarray() if sparse.issparse(D) else D
    projected = []
    for column, off in zip(dense.T, gamma.T == 0, strict=True):
        projected.append(column - np.linalg.lstsq(D[off], D[off] @ column)[0])
    return np.stack(projected, axis=1)


def probabilities(scores):
    """(n, classes) of scores (n,), (n, 1) or (n, classes)."""
    if scores.ndim == 1 or scores.shape[1] == 1:
        positive = expit(scores.reshape(-1))
        return np.stack([1 - positive, positive], axis=1)
    return softmax(scores, axis=1)


def _deviance(Y, scores):
    truth = Y if Y.shape[1] > 1 else np.hstack([1 - Y, Y])
    return -xlogy(truth, np.maximum(probabilities(scores), 1e-15)).sum(axis=1)


LOSS_OF = {  # of each row
    "squared": lambda Y, scores: ((Y - scores) ** 2).sum(axis=1),
    "logistic": _deviance,
    "multinomial": _deviance,
}
