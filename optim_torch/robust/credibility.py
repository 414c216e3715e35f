"""Learning from few labels: pseudo-labels that the path of shifts reaches last come first."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from optim_torch.robust.huber_path import group_huber_path
from optim_torch.robust.labels import with_ones

ORDERS = ("path", "confidence")


class InstanceCredibility(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Self-training that adds the most credible pseudo-labels first (ICI).

    y = −1 marks rows without label, as in scikit-learn's `SelfTrainingClassifier`. Each round, the
    classifier trained so far labels them; one-hot labels of all rows are regressed on as many
    principal components of the normalised features as there are classes, and the `step` rows of
    each class that the path of shifts reaches last join the training rows (`group_huber_path`).
    estimator: a classifier; None is LogisticRegression(C=10). order: "path", or "confidence", the
    classifier's own probabilities, the rival to beat: in our measurements it is as good.

    After `fit(X, y)`: estimator_ (trained on all), transduction_ (labels of all rows), round_ (in
    which a row joined; 0: labelled), credibility_ (of all rows in the last round: rank on the path,
    or probability), n_iter_, classes_. Wang, Xu, Liu, Zhang, Fu 2020, "Instance credibility
    inference for few-shot learning".
    """

    def __init__(self, estimator=None, order="path", step=5):
        self.estimator = estimator
        self.order = order
        self.step = step

    def fit(self, X, y):
        """X (n, d), y (n,) with −1 for rows without label; at least two classes of labels."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if self.order not in ORDERS:
            raise ValueError(f"order {self.order!r}: one of {', '.join(ORDERS)}")
        if self.step < 1:
            raise ValueError(f"step {self.step!r}: must be at least 1")
        labelled = y != -1 if y.dtype.kind in "iuf" else np.ones(len(y), bool)
        self.classes_ = np.unique(y[labelled])
        if len(self.classes_) < 2:
            raise ValueError("only one class of labels in y, −1 aside")
        base = LogisticRegression(C=10, max_iter=1000) if self.estimator is None else self.estimator
        design = self._design(X)
        self.transduction_, self.round_ = y.copy(), np.where(labelled, 0, -1)
        self.n_iter_ = 0
        self.credibility_ = np.zeros(len(y))
        while True:
            known = self.round_ >= 0
            self.estimator_ = clone(base).fit(X[known], self.transduction_[known])
            if known.all():
                return self
            self.n_iter_ += 1
            self.transduction_[~known] = self.estimator_.predict(X[~known])
            self.credibility_ = self._credibility(X, design)
            for code in self.classes_:
                rows = np.flatnonzero(~known & (self.transduction_ == code))
                best = rows[np.argsort(-self.credibility_[rows], kind="stable")]
                self.round_[best[: self.step]] = self.n_iter_

    def _design(self, X):
        parts = min(len(self.classes_), *X.shape)
        return with_ones(PCA(parts, svd_solver="full").fit_transform(normalize(X)))

    def _credibility(self, X, design):
        codes = np.searchsorted(self.classes_, self.transduction_)
        if self.order == "confidence":
            return self.estimator_.predict_proba(X)[np.arange(len(X)), codes]
        path = group_huber_path(design, np.eye(len(self.classes_))[codes])
        credibility = np.empty(len(X))
        credibility[path.order] = np.arange(len(X))
        return credibility

    def predict(self, X):
        """Labels (m,) of new rows."""
        check_is_fitted(self)
        return self.estimator_.predict(validate_data(self, X, reset=False, dtype=np.float64))

    def predict_proba(self, X):
        """Probabilities (m, classes) of new rows."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(validate_data(self, X, reset=False, dtype=np.float64))
