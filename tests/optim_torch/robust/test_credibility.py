"""Instance credibility: what self-training must keep, and where it must be right."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import check_estimator

from optim_torch.robust.credibility import InstanceCredibility


def few_labels(spread, shots=1, seed=0):
    """X (100, 8), y with −1 for all but `shots` rows a class, the true labels."""
    random = np.random.default_rng(seed)
    truth = np.arange(100) % 5
    X = spread * random.standard_normal((5, 8))[truth] + random.standard_normal((100, 8))
    return X, np.where(np.arange(100) < 5 * shots, truth, -1), truth


def test_with_all_labels_it_is_its_estimator():
    X, _, truth = few_labels(1)
    model = InstanceCredibility(LogisticRegression()).fit(X, truth)
    np.testing.assert_array_equal(model.estimator_.coef_, LogisticRegression().fit(X, truth).coef_)
    assert model.n_iter_ == 0 and (model.round_ == 0).all()


@pytest.mark.parametrize("order", ["path", "confidence"])
def test_separate_classes_are_learned_from_one_label_each(order):
    X, y, truth = few_labels(6)
    model = InstanceCredibility(order=order).fit(X, y)
    np.testing.assert_array_equal(model.transduction_, truth)
    assert model.score(X, truth) == 1


def test_labels_stay_and_rounds_are_small():
    X, y, _ = few_labels(1, shots=2)
    model = InstanceCredibility(step=3).fit(X, y)
    np.testing.assert_array_equal(model.transduction_[:10], y[:10])
    assert (model.round_[:10] == 0).all() and (model.round_[10:] > 0).all()
    for number in range(1, model.n_iter_ + 1):
        assert np.bincount(model.transduction_[model.round_ == number]).max() <= 3


def test_the_order_of_rows_does_not_matter():
    X, y, _ = few_labels(1.5)
    one = InstanceCredibility(step=10).fit(X, y)
    shuffle = np.random.default_rng(0).permutation(len(y))
    two = InstanceCredibility(step=10).fit(X[shuffle], y[shuffle])
    np.testing.assert_array_equal(two.transduction_, one.transduction_[shuffle])
    np.testing.assert_array_equal(two.round_, one.round_[shuffle])


def test_the_least_credible_labels_are_more_often_wrong():
    first, last = [], []
    for seed in range(3):
        X, y, truth = few_labels(1.2, shots=2, seed=seed)
        model = InstanceCredibility().fit(X, y)
        right = model.transduction_ == truth
        first.append(right[model.round_ == 1].mean())
        last.append(right[model.round_ >= 3].mean())
    assert np.mean(first) > np.mean(last)


@pytest.mark.slow
def test_it_is_an_estimator_of_scikit_learn():
    unlabelled = {"check_classifiers_classes": "its classes are −1 and 1, and −1 is no class here"}
    check_estimator(InstanceCredibility(), expected_failed_checks=unlabelled)


def test_one_class_and_unknown_orders_are_refused():
    X, y, _ = few_labels(1)
    with pytest.raises(ValueError, match="one class"):
        InstanceCredibility().fit(X, np.where(y > 0, -1, y))
    with pytest.raises(ValueError, match="entropy"):
        InstanceCredibility(order="entropy").fit(X, y)
