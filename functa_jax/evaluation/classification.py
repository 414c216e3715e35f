"""Which classifier reads features best, and what its test accuracy is worth.

The same candidates for latents, PCA and pixels: logistic regressions and RBF SVMs over grids of
their constants, on features divided by one deviation, which keeps their proportions, or each by its
own. One is chosen by stratified k-fold cross-validation on train and validation together, and
fitted to both. Scales are fitted within each fold. What made the features (a functa, PCA) saw the
images of train, never their labels, and none of test.
"""

import itertools
import warnings
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import binomtest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from groundfloor.machine import cores

FOLDS = 5
SELECTION_ROWS = 2000  # for choosing among the candidates, at most
SCALINGS = ("one scale", "standardised")
GRIDS = {
    "logistic regression": {"C": (0.01, 0.1, 1.0, 10.0)},
    "SVM": {"C": (1.0, 10.0, 100.0), "gamma": (0.1, 0.3, 1.0, 3.0)},  # gamma: in 1/d
}


class OneScale(TransformerMixin, BaseEstimator):
    """Subtracts each number's mean and divides all by one deviation."""

    def fit(self, x, y=None):
        """x (n, d)."""
        self.mean_ = x.mean(axis=0, dtype=np.float64)
        self.scale_ = (x - self.mean_).std() or 1.0
        return self

    def transform(self, x):
        """x (n, d) -> (n, d)."""
        return (x - self.mean_) / self.scale_


class Candidate(NamedTuple):
    """A kind of GRIDS, how its features are scaled, and its constants."""

    kind: str
    scaling: str
    settings: dict

    def __str__(self):
        unit = {"gamma": "/d"}
        constants = [f"{key}={value:g}{unit.get(key, '')}" for key, value in self.settings.items()]
        return ", ".join((self.kind, *constants, self.scaling))

    def model(self, numbers):
        """The scikit-learn pipeline, not fitted, for features of so many numbers."""
        scaler = OneScale() if self.scaling == "one scale" else StandardScaler()
        if self.kind == "SVM":
            gamma = self.settings["gamma"] / numbers
            svm = SVC(C=self.settings["C"], gamma=gamma, break_ties=True, cache_size=1000)
            return make_pipeline(scaler, svm)
        return make_pipeline(scaler, LogisticRegression(C=self.settings["C"], max_iter=300))

    def at_end(self):
        """Its constants that are the first or last of their grid: a wider one may be better."""
        ends = {key: (grid[0], grid[-1]) for key, grid in GRIDS[self.kind].items()}
        return [key for key, value in self.settings.items() if value in ends[key]]


def candidates(kinds=tuple(GRIDS)):
    """All candidates of these kinds."""
    return [
        Candidate(kind, scaling, dict(zip(GRIDS[kind], values, strict=True)))
        for kind in kinds
        for scaling in SCALINGS
        for values in itertools.product(*GRIDS[kind].values())
    ]


class Tried(NamedTuple):
    """A candidate with its accuracy in [0, 1] and its log-loss on rows that it had not seen."""

    candidate: Candidate
    accuracy: float
    loss: float


class Classifier(NamedTuple):
    """The chosen one, fitted: model (predicts classes of features (n, d)), rows it learnt from."""

    chosen: Tried
    model: object
    rows: int


def possible(labels):
    """Whether there is something to tell apart: two classes with two examples each."""
    counts = np.unique(labels, return_counts=True)[1]
    return (counts > 1).sum() > 1


def choose(x, y, rows, seed=0, kinds=tuple(GRIDS)):
    """The best Classifier of features x (n, d) and labels y (n,), fitted to at most `rows` of them.

    Chosen on at most SELECTION_ROWS by accuracy; the log-loss of `log_loss` decides between equals.
    Raises ValueError if there is nothing to tell apart, or for less than two rows.
    """
    if not possible(y) or rows < 2:
        raise ValueError("a classifier needs two classes with two examples each")
    for count in (min(rows, SELECTION_ROWS), SELECTION_ROWS, len(x)):  # enough to cross-validate
        few, labels = subset(x, y, count, seed)
        if possible(labels):
            break
    tried = Parallel(cores(), prefer="threads")(
        delayed(cross_validated)(candidate, few, labels, seed) for candidate in candidates(kinds)
    )
    best = max(tried, key=lambda t: (t.accuracy, -t.loss))
    x, y = subset(x, y, rows, seed)
    return Classifier(best, fitted(best.candidate.model(x.shape[1]), x, y), len(x))


def cross_validated(candidate, x, y, seed=0):
    """A candidate Tried on each fold of (x, y) by what it learns from the others."""
    classes, places = np.unique(y, return_inverse=True)
    predicted = np.empty((len(x), len(classes)))
    for seen, held in folds(y, seed):
        model = fitted(candidate.model(x.shape[1]), x[seen], y[seen])
        predicted[held] = scores(model, x[held], classes)
    accuracy = float((predicted.argmax(axis=1) == places).mean())
    return Tried(candidate, accuracy, log_loss(predicted, places))


def folds(y, seed=0):
    """[(rows to learn from, rows held out)], stratified by labels y (n,): at most FOLDS, fewer
    where the rarest class has fewer examples."""
    count = int(np.clip(np.unique(y, return_counts=True)[1].min(), 2, FOLDS))
    with warnings.catch_warnings():  # of classes with a single example
        warnings.simplefilter("ignore", UserWarning)
        made = StratifiedKFold(count, shuffle=True, random_state=seed)
        return list(made.split(np.zeros(len(y)), y))


def scores(model, x, classes):
    """What a fitted model says for each of `classes`, sorted, of x (n, d): (n, classes)."""
    decisions = model.decision_function(x)
    if decisions.ndim == 1:  # two classes have one number
        decisions = np.stack([-decisions, decisions], axis=1) / 2
    every = np.full((len(x), len(classes)), decisions.min() - 1)  # of classes that it has not seen
    every[:, np.searchsorted(classes, model.classes_)] = decisions
    return every


def log_loss(scores, labels):
    """Mean cross-entropy, in nats, of softmax(scores / T) (n, classes) at the best temperature T.

    One T for all rows (Guo et al. 2017) makes scores of SVMs and of logistic regressions
    comparable, though only the latter mean probabilities.
    """
    right = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]

    def loss(log_factor):
        factor = np.exp(log_factor)
        return np.mean(logsumexp(factor * scores, axis=1) - factor * right)

    return float(minimize_scalar(loss, bounds=(-8, 8), method="bounded").fun)


def fitted(model, x, y):
    """`model`, fitted."""
    with warnings.catch_warnings():  # logistic regression stops early on purpose
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def subset(x, y, rows, seed):
    """At most `rows` of the examples, each class in its proportion; where that is impossible, one
    of each class first, as far as rows go."""
    if rows >= len(x):
        return x, y
    counts = np.unique(y, return_counts=True)[1]
    if counts.min() > 1 and min(rows, len(x) - rows) >= len(counts):
        x, _, y, _ = train_test_split(x, y, train_size=rows, stratify=y, random_state=seed)
        return x, y
    order = np.random.default_rng(seed).permutation(len(y))
    firsts = np.sort(np.unique(y[order], return_index=True)[1])
    chosen = np.append(order[firsts], np.delete(order, firsts))[:rows]
    return x[chosen], y[chosen]


def compare(features, labels, rows, seed=0):
    """The best classifier of each kind of features beside each other, as JSON-able dicts.

    features: {name: (train, val, test)} of features (n, d); labels: the same three of labels (n,).
    Each result has the classifier's name, which of its constants lie `at_end` of their grids,
    `rows` it learnt from, accuracy (`cv`) and log-loss in cross-validation, accuracy on `test` with
    Wilson's 95 % `interval`, all in [0, 1], and, but for the first, `p`: McNemar's, against the
    first. Prints each as it is found.
    """
    seen, truth = np.concatenate(labels[:2]), labels[2]
    results, first = {}, None
    for name, (train, val, test) in features.items():
        classifier = choose(np.concatenate([train, val]), seen, rows, seed)
        right = classifier.model.predict(test) == truth
        tried = classifier.chosen
        results[name] = {
            "classifier": str(tried.candidate),
            "at_end": tried.candidate.at_end(),
            "rows": classifier.rows,
            "cv": tried.accuracy,
            "cv_log_loss": tried.loss,
            "test": float(right.mean()),
            "interval": wilson(right.sum(), len(right)),
        }
        if first is not None:
            results[name]["p"] = mcnemar(first, right)[2]
        first = right if first is None else first
        print(said(name, results[name]), flush=True)
    return results


def said(name, result):
    """A result of `compare` in one line."""
    low, high = result["interval"]
    ends = "".join(f"; {key} at the end of its grid" for key in result["at_end"])
    return (
        f"classifier on {name}: {100 * result['test']:.2f} % of test [{100 * low:.2f}, "
        f"{100 * high:.2f}], {100 * result['cv']:.2f} % in cross-validation "
        f"({result['classifier']}, {result['rows']:,} rows{ends})"
    )


def wilson(right, count):
    """Wilson's 95 % interval (low, high) of a share, `right` of `count`."""
    interval = binomtest(int(right), int(count)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first, second):
    """Images that only one of two classifiers gets right, (a, b), and the exact two-sided p-value
    of McNemar's test that both are equally likely; first, second: bool (n,)."""
    a, b = int((first & ~second).sum()), int((second & ~first).sum())
    return a, b, float(binomtest(a, a + b).pvalue) if a + b else 1.0
