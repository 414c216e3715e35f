"""Which training labels are wrong: the mean-shift model with one-hot labels as responses."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from optim_torch.robust import pictures
from optim_torch.robust.huber_path import group_huber_path


def with_ones(X):
    """X centred, and a column of ones: PCA's columns need an intercept too."""
    return np.column_stack([X - X.mean(0), np.ones(len(X))])


class LabelSelector(BaseEstimator):
    """What selectors of clean labels share: checks of X and y, and one-hot labels."""

    def _checked(self, X, y):
        """X (n, d) float64, codes (n,) of y in `classes_`; ValueError for less than two classes."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("only one class in y: no label can be wrong")
        return X, codes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class NoisyLabelSelector(LabelSelector):
    """Rows whose labels the path of Y = X B + Γ + ε shifts first are suspicious (SPR).

    Y: one-hot labels; the rows of Γ are penalised by their norms. The whole data are one problem,
    n (d + c) numbers; the published method solves small pieces instead, and finds fewer.
    keep: "fit" keeps the labels that the robust fit at the end of the path favours; a number in
    (0, 1) keeps that share of each class, those that enter last (published: 0.5).
    X: features in which classes are nearly linear, such as a network's, or Nystroem's of pixels,
    with fewer columns than half the rows (`fit` warns): many columns explain any labels.

    After `fit(X, y)`: clean_ (mask), order_ (rows, most suspicious first), entry_ (λ at which a row
    is shifted, 0 if never), fitted_ (labels that the fit favours), path_ (`ShiftPath`), classes_.
    Wang, Sun, Fu 2022, "Scalable penalized regression for noise detection".
    """

    def __init__(self, keep="fit"):
        self.keep = keep

    def fit(self, X, y):
        """X (n, d), y (n,) labels of any kind."""
        X, codes = self._checked(X, y)
        if self.keep != "fit" and not 0 < self.keep < 1:
            raise ValueError(f"keep {self.keep!r}: 'fit' or a share in (0, 1)")
        design = with_ones(X)
        if 2 * design.shape[1] > len(design):
            warnings.warn(
                f"X has {X.shape[1]} columns for {len(X)} rows: so many explain wrong labels, too; "
                "give fewer, such as those of PCA",
                stacklevel=2,
            )
        self.path_ = group_huber_path(design, np.eye(len(self.classes_))[codes])
        self.entry_, self.order_ = self.path_.entry, self.path_.order
        favoured = (design @ self.path_.coefficients[-1]).argmax(1)
        self.fitted_ = self.classes_[favoured]
        self.clean_ = favoured == codes if self.keep == "fit" else self._last(codes)
        return self

    def _last(self, codes):
        """The share `keep` of each class, at least one row, that enters last."""
        clean = np.zeros(len(codes), bool)
        for code in range(len(self.classes_)):
            rows = self.order_[codes[self.order_] == code]
            clean[rows[len(rows) - max(1, round(self.keep * len(rows))) :]] = True
        return clean

    def plot_path(self, *, ax=None):
        """Draw at which λ the rows enter, first ones first. Returns ax."""
        check_is_fitted(self)
        return pictures.entries(self.entry_, self.order_, "row", ax)
