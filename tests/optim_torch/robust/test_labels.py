"""Which labels are wrong: invariances, closed forms, and the rate of wrong ones by simulation."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import check_estimator

from optim_torch.robust.knockoff_labels import KnockoffLabelSelector, select
from optim_torch.robust.labels import NoisyLabelSelector


def blobs(seed=0, n=400, classes=5, noise=0.4, spread=2.0):
    """X (n, 6), labels (n,), which of them are wrong: another class, all equally likely."""
    random = np.random.default_rng(seed)
    centres = spread * random.standard_normal((classes, 6))
    truth = random.integers(0, classes, n)
    X = centres[truth] + random.standard_normal((n, 6))
    wrong = random.random(n) < noise
    return X, np.where(wrong, (truth + random.integers(1, classes, n)) % classes, truth), wrong


def ranks(model):
    """Place of each row in `order_`."""
    return np.argsort(model.order_)


def test_wrong_labels_enter_first():
    X, y, wrong = blobs(spread=4)
    model = NoisyLabelSelector().fit(X, y)
    assert roc_auc_score(wrong, model.entry_) > 0.99
    assert (model.clean_ == ~wrong).mean() > 0.97
    assert (np.diff(model.entry_[model.order_]) <= 0).all()


def test_without_features_rows_go_by_the_size_of_their_class():
    """Least squares then predict the class shares: the residual of a rare label is larger."""
    y = np.repeat([0, 1, 2], [60, 30, 10])
    model = NoisyLabelSelector().fit(np.zeros((100, 1)), y)
    assert list(y[model.order_]) == [2] * 10 + [1] * 30 + [0] * 60
    shares = np.array([0.6, 0.3, 0.1])
    size = np.linalg.norm(np.eye(3) - shares, axis=1)
    assert model.path_.lambdas[0] == pytest.approx(size.max())


def test_more_columns_than_half_the_rows_are_warned_of():
    X, y, _ = blobs(n=60)
    with pytest.warns(UserWarning, match="40 columns for 60 rows"):
        NoisyLabelSelector().fit(np.tile(X, 7)[:, :40], y)


def test_names_of_classes_order_of_rows_and_units_of_features_do_not_matter():
    X, y, _ = blobs()
    one = NoisyLabelSelector().fit(X, y)
    shuffle = np.random.default_rng(1).permutation(len(y))
    turned = (3 * X + 1) @ np.linalg.qr(np.random.default_rng(2).standard_normal((6, 6)))[0]
    two = NoisyLabelSelector().fit(turned[shuffle], np.array(list("edcba"))[y][shuffle])
    np.testing.assert_allclose(two.entry_, one.entry_[shuffle], atol=1e-6)
    np.testing.assert_array_equal(two.clean_, one.clean_[shuffle])


def test_a_share_of_each_class_is_kept_however_small_the_class():
    X, y, _ = blobs()
    few = np.flatnonzero(y == 4)[3:]
    X, y = np.delete(X, few, 0), np.delete(y, few)
    model = NoisyLabelSelector(keep=0.5).fit(X, y)
    kept, counts = np.bincount(y[model.clean_]), np.bincount(y)
    assert list(kept) == [round(count / 2) for count in counts]
    for code in range(5):
        own = y == code
        assert ranks(model)[own & model.clean_].min() > ranks(model)[own & ~model.clean_].max()


def test_selection_is_the_largest_threshold_that_the_rate_allows():
    random = np.random.default_rng(0)
    for q in (0.05, 0.2, 0.5):
        W = np.round(random.standard_normal(200), 1) - 0.3  # with ties
        mask, threshold = select(W, q)
        allowed = [
            t
            for t in np.unique(np.abs(W))
            if 1 + ((W > 0) & (t >= W)).sum() <= q * ((W < 0) & (-t <= W)).sum()
        ]
        assert threshold == max(allowed, default=0)
        np.testing.assert_array_equal(mask, (W < 0) & (np.abs(W) <= threshold))


def rate_of(statistic, q, sets=200):
    """False selection rate over data sets where a third of 300 labels is wrong, and its error.

    Distances of wrong labels are exchangeable with those of the drawn ones; right labels are near.
    """
    rates = []
    for seed in range(sets):
        own, drawn = np.random.default_rng(seed).uniform(0.2, 1.2, (2, 300))
        own[100:] *= 0.6
        mask, _ = select(statistic(own, drawn) * np.sign(own - drawn), q)
        rates.append(mask[:100].sum() / max(mask.sum(), 1))
    return np.mean(rates), np.std(rates) / np.sqrt(sets)


def test_the_symmetric_statistic_holds_its_rate_and_the_published_one_does_not():
    for q in (0.05, 0.1, 0.2):
        rate, error = rate_of(np.minimum, q)
        assert rate <= q + 3 * error
    rate, error = rate_of(lambda own, drawn: own, 0.05)
    assert rate > 0.1 + 3 * error


def test_of_the_labels_kept_at_most_q_are_wrong():
    """Over 40 data sets with 40 % wrong labels; and three quarters of the right ones are kept."""
    rates, found = [], []
    for seed in range(40):
        X, y, wrong = blobs(seed)
        clean = KnockoffLabelSelector(0.2, seed).fit(X, y).clean_
        rates.append((clean & wrong).sum() / max(clean.sum(), 1))
        found.append((clean & ~wrong).sum() / (~wrong).sum())
    assert np.mean(rates) <= 0.2 and np.mean(found) > 0.7


def test_the_clearest_labels_are_last():
    X, y, wrong = blobs(spread=4)
    model = KnockoffLabelSelector(0.2, 0).fit(X, y)
    assert roc_auc_score(wrong, -ranks(model)) > 0.9
    assert wrong[model.order_[-100:]].sum() == 0
    assert (model.W_[model.clean_] < 0).all()


@pytest.mark.parametrize("kind", [NoisyLabelSelector, KnockoffLabelSelector])
def test_they_are_estimators_of_scikit_learn_and_refuse_one_class(kind):
    check_estimator(kind())
    X, y, _ = blobs()
    with pytest.raises(ValueError, match="only one class"):
        kind().fit(X, np.zeros(len(y)))
    with pytest.raises(ValueError, match="NaN"):
        kind().fit(np.where(X > 2, np.nan, X), y)
    with pytest.raises(ValueError, match=r"1\.5"):
        kind(1.5).fit(X, y)
