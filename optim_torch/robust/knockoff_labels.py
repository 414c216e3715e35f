"""Clean labels at a stated rate of wrong ones: each label is held against a random other label."""

import numpy as np
from sklearn.utils import check_random_state

from optim_torch.robust.huber_path import basis
from optim_torch.robust.labels import LabelSelector, NoisyLabelSelector, with_ones


def select(W, q):
    """(mask, T): rows with −T ≤ W < 0, T the largest with (1 + #{0 < W ≤ T}) ≤ q · #{−T ≤ W < 0}.

    T is 0, and nothing is selected, where there is none.
    """
    order = np.argsort(np.abs(W), kind="stable")
    size = np.abs(W[order])
    wrong, right = np.cumsum(W[order] > 0), np.cumsum(W[order] < 0)
    last = np.append(size[1:] > size[:-1], True)  # of equal sizes: all of them count
    possible = np.flatnonzero(last & (1 + wrong <= q * right))
    threshold = size[possible[-1]] if len(possible) else 0.0
    return (W < 0) & (np.abs(W) <= threshold), float(threshold)


class KnockoffLabelSelector(LabelSelector):
    """Keeps labels of which at most a share q is wrong, in expectation (Knockoffs-SPR, corrected).

    The data are halved. Least squares on the cleaner half of one (`NoisyLabelSelector`) predict the
    other; there a label at distance Z from its prediction competes with another label drawn at
    random, at distance Z̃: W = ± min(Z, Z̃), negative where the own label is nearer. For a wrong
    label both are draws from the other labels (or the drawn one is the right one, and wins), so
    that its sign is a fair coin given min(Z, Z̃), and positive W count the wrong among the negative.
    The published |W| = Z is not offered: it is not symmetric in the two labels, small Z alone makes
    W negative, and its real rates are above q (5 % for q = 2 %, 15 % for 10 % on MNIST).

    The rate holds where wrong labels are equally likely any other class, and independent between
    rows; features that a network learned from these same labels are not independent of them.
    Below q of about share / ((1 − share)(classes − 1)), share that of wrong labels, hardly any
    label is kept: so often does a wrong label meet its right one.
    After `fit(X, y)`: clean_ (mask), W_, order_ (most suspicious first: by W), thresholds_ (of the
    two halves), classes_. random_state: of the halves and the other labels.
    Wang, Fu, Sun 2023, "Knockoffs-SPR: clean sample selection in learning with noisy labels".
    """

    def __init__(self, q=0.1, random_state=None):
        self.q = q
        self.random_state = random_state

    def fit(self, X, y):
        """X (n, d) features, y (n,) labels; at least two rows of each class."""
        X, codes = self._checked(X, y)
        if not 0 < self.q < 1:
            raise ValueError(f"q {self.q!r}: a rate in (0, 1)")
        random = check_random_state(self.random_state)
        halves = self._halves(codes, random)
        step = random.randint(1, len(self.classes_), len(codes))
        other = (codes + step) % len(self.classes_)
        self.W_, self.clean_ = np.zeros(len(codes)), np.zeros(len(codes), bool)
        thresholds = []
        for half in (False, True):
            test = halves == half
            prediction = self._predict(X[~test], codes[~test], X[test])
            own = self._distance(prediction, codes[test])
            drawn = self._distance(prediction, other[test])
            self.W_[test] = np.sign(own - drawn) * np.minimum(own, drawn)
            self.clean_[test], threshold = select(self.W_[test], self.q)
            thresholds.append(threshold)
        self.thresholds_ = np.array(thresholds)
        with np.errstate(divide="ignore"):  # small |W| is decided most clearly
            self.order_ = np.argsort(-1 / self.W_, kind="stable")
        return self

    def _halves(self, codes, random):
        """Two halves of each class, at random: a mask."""
        halves = np.zeros(len(codes), bool)
        for code in range(len(self.classes_)):
            rows = random.permutation(np.flatnonzero(codes == code))
            if len(rows) < 2:
                raise ValueError(f"class {self.classes_[code]!r} has one row: it cannot be halved")
            halves[rows[: len(rows) // 2]] = True
        return halves

    def _predict(self, X, codes, new):
        clean = NoisyLabelSelector(keep=0.5).fit(X, codes).clean_
        mean, targets = X[clean].mean(0), np.eye(len(self.classes_))[codes[clean]]
        Z, T = basis(with_ones(X[clean]), np.ones(clean.sum()))
        return np.column_stack([new - mean, np.ones(len(new))]) @ (T @ (Z.T @ targets))

    @staticmethod
    def _distance(prediction, codes):
        """‖e_code − prediction‖ of each row."""
        own = prediction[np.arange(len(codes)), codes]
        return np.sqrt(np.maximum((prediction**2).sum(1) + 1 - 2 * own, 0))
