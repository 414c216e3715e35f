"""Ways to find wrong labels, side by side: labels with known errors, methods, and their scores.

A method is a function (X, codes, seed) -> (suspicion (n,), wrong (n,) mask): X (n, d) features,
codes (n,) labels 0 ... c − 1. A larger suspicion is a worse label. None is told how many are wrong.
"""

import numpy as np
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from optim_torch.robust.huber_path import basis
from optim_torch.robust.knockoff_labels import KnockoffLabelSelector
from optim_torch.robust.labels import NoisyLabelSelector, with_ones

FOLDS = 5  # of confident learning
ALL, RIGHT = "all labels", "right labels alone"


def flipped(codes, classes, share, kind, random):
    """Labels of which each is wrong with probability `share`.

    kind: "symmetric", any other class; "pair", the next class. random: np.random.Generator.
    """
    step = random.integers(1, classes, len(codes)) if kind == "symmetric" else 1
    return np.where(random.random(len(codes)) < share, (codes + step) % classes, codes)


def kernel_features(train, test, columns, seed):
    """Nystroem's features of a Gaussian kernel: classes that pixels hold become nearly linear.

    train, test (n, d) pixels; width from the variance of train, as in scikit-learn's gamma="scale".
    """
    gamma = 1 / (train.shape[1] * max(train.var(), 1e-12))
    kernel = Nystroem(gamma=gamma, n_components=min(columns, len(train)), random_state=seed)
    return kernel.fit_transform(train), kernel.transform(test)


def classifier():
    """What rivals find wrong labels with; a weaker penalty would learn the wrong ones, too."""
    return LogisticRegression(C=1, max_iter=300)


def suspicion_of(order):
    """Ranks (n,), highest for the first row of `order`."""
    suspicion = np.empty(len(order))
    suspicion[order] = np.arange(len(order), 0, -1)
    return suspicion


def path_of_shifts(X, codes, seed):
    """The robust path; wrong where its end favours another class."""
    model = NoisyLabelSelector().fit(X, codes)
    return suspicion_of(model.order_), ~model.clean_


def knockoffs(X, codes, seed, q=0.1):
    """At most a share q of what is kept is wrong."""
    model = KnockoffLabelSelector(q, seed).fit(X, codes)
    return suspicion_of(model.order_), ~model.clean_


def least_squares(X, codes, seed):
    """Residuals of one least-squares fit; wrong where it favours another class."""
    design = with_ones(X)
    Z, _ = basis(design, np.ones(len(X)))
    targets = np.eye(codes.max() + 1)[codes]
    fitted = Z @ (Z.T @ targets)
    return np.linalg.norm(targets - fitted, axis=1), fitted.argmax(1) != codes


def small_loss(X, codes, seed):
    """Loss of a logistic regression on all labels; wrong where it favours another class."""
    probability = classifier().fit(X, codes).predict_proba(X)
    return -probability[np.arange(len(codes)), codes], probability.argmax(1) != codes


def confident_learning(X, codes, seed):
    """Cross-validated probabilities (Northcutt, Jiang, Chuang 2021): wrong where another class is
    above the mean confidence of its own rows, and the most probable of those that are."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    probability = cross_val_predict(classifier(), X, codes, cv=folds, method="predict_proba")
    classes = range(probability.shape[1])
    usual = np.array([probability[codes == code, code].mean() for code in classes])
    sure = np.where(probability >= usual, probability, 0)
    wrong = (sure.max(1) > 0) & (sure.argmax(1) != codes)
    return -probability[np.arange(len(codes)), codes], wrong


METHODS = {
    "path of shifts": path_of_shifts,
    "knockoffs": knockoffs,
    "least-squares residual": least_squares,
    "small loss": small_loss,
    "confident learning": confident_learning,
}


def scores(suspicion, found, wrong):
    """Precision, recall and AUC of the wrong labels found; share of labels kept, and of wrong ones
    among them (None where there is nothing to divide by)."""
    hits, kept = (found & wrong).sum(), ~found
    known = 0 < wrong.sum() < len(wrong)
    return {
        "precision": float(hits / found.sum()) if found.any() else None,
        "recall": float(hits / wrong.sum()) if wrong.any() else None,
        "auc": float(roc_auc_score(wrong, suspicion)) if known else None,
        "kept": float(kept.mean()),
        "wrong_kept": float((kept & wrong).sum() / kept.sum()) if kept.any() else None,
    }


def accuracies(X, codes, kept, test_X, test_codes):
    """Test accuracies of classifiers trained on the rows kept; None where these are of one class.

    Logistic regression and five nearest neighbours: one averages over labels, one trusts each.
    """
    trained = {
        "logistic": LogisticRegression(C=10, max_iter=300),
        "neighbours": KNeighborsClassifier(5),
    }
    if len(np.unique(codes[kept])) < 2 or kept.sum() < 5:
        return dict.fromkeys(trained)
    return {
        name: float(model.fit(X[kept], codes[kept]).score(test_X, test_codes))
        for name, model in trained.items()
    }


def compare(X, codes, truth, test_X, test_codes, methods, seed):
    """One row a method (dict), and those of all labels and of the right ones alone."""
    wrong, rows = codes != truth, []
    for name, method in methods.items():
        suspicion, found = method(X, codes, seed)
        after = accuracies(X, codes, ~found, test_X, test_codes)
        rows.append({"method": name, **scores(suspicion, found, wrong), **after})
    for name, kept in ((ALL, np.ones(len(codes), bool)), (RIGHT, ~wrong)):
        after = accuracies(X, codes, kept, test_X, test_codes)
        rows.append({"method": name, "kept": float(kept.mean()), **after})
    return rows
