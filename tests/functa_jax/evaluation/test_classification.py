"""Classifiers: chosen by cross-validation, ties by log-loss, nothing leaks; known statistics."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import log_loss as cross_entropy
from sklearn.model_selection import StratifiedKFold

from functa_jax.evaluation import classification
from functa_jax.evaluation.classification import Candidate, OneScale, Tried

SMALL = {"logistic regression": {"C": (0.1, 1.0)}, "SVM": {"C": (1.0, 10.0), "gamma": (0.3, 1.0)}}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few candidates, to be quick."""
    monkeypatch.setattr(classification, "GRIDS", SMALL)


@pytest.fixture
def two_kinds(monkeypatch):
    """One candidate of each kind, where more would change nothing."""
    grids = {"logistic regression": {"C": (1.0,)}, "SVM": {"C": (1.0,), "gamma": (1.0,)}}
    monkeypatch.setattr(classification, "GRIDS", grids)


def blobs(rows, spread, seed):
    """Features (rows, 3) about the unit vector of their label, of which there are three."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    return np.eye(3)[labels] + spread * random.normal(size=(rows, 3)), labels


def three(spread, seed=0, rows=(90, 30, 60)):
    """(train, val, test) of features and of labels."""
    return zip(*(blobs(n, spread, seed + k) for k, n in enumerate(rows)), strict=True)


# ---- the choice ----


@pytest.mark.parametrize("size", [1e-5, 300])
def test_one_scale_does_not_overflow_in_half_precision(size):
    rows = (size * np.random.default_rng(0).standard_normal((2000, 8))).astype(np.float16)
    scaled = classification.OneScale().fit(rows).transform(rows)
    assert scaled.std() == pytest.approx(1, abs=1e-3)


def test_separable_classes_are_told_apart():
    features, labels = three(0.05)
    found = classification.compare({"x": features}, labels, rows=100)["x"]
    assert found["cv"] == found["test"] == 1 and found["rows"] == 100
    assert found["cv_log_loss"] < 0.1


def test_random_labels_are_guessed_at_chance():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 4)), random.integers(0, 3, 300)
    tried = classification.choose(x, y, rows=1000).chosen
    # The best of several candidates, so rather above chance than below.
    assert abs(tried.accuracy - 1 / 3) < 5 * np.sqrt(2 / 9 / 300)
    assert tried.loss == pytest.approx(np.log(3), abs=0.05)  # knows that it knows nothing


@pytest.mark.usefixtures("two_kinds")
def test_test_labels_do_not_change_the_choice():
    features, labels = three(0.7)
    swapped = [*labels[:2], (labels[2] + 1) % 3]
    once, other = (classification.compare({"x": features}, y, 90)["x"] for y in (labels, swapped))
    assert once["test"] != other["test"]
    for key in ("classifier", "rows", "cv", "cv_log_loss", "at_end"):
        assert once[key] == other[key]


def tried_as(monkeypatch, outcomes):
    """Replaces cross-validation by given (accuracy, loss) of the candidates in their order."""
    known = iter(outcomes)
    table = {str(c): next(known) for c in classification.candidates()}
    monkeypatch.setattr(classification, "cross_validated", lambda c, *_: Tried(c, *table[str(c)]))


@pytest.mark.parametrize("winner", range(12))
def test_ties_in_accuracy_are_decided_by_log_loss(winner, monkeypatch):
    everyone = classification.candidates()
    assert len(everyone) == 12
    outcomes = [(0.9, 0.3 if k == winner else 0.4) for k in range(12)]
    outcomes[(winner + 1) % 12] = (0.89, 0.1)  # less accurate: its loss does not help
    tried_as(monkeypatch, outcomes)
    found = classification.choose(*blobs(60, 0.5, 0), rows=60)
    assert found.chosen.candidate == everyone[winner]


def test_folds_hold_out_what_they_report_and_scales_see_the_rest_alone(monkeypatch):
    x, y = blobs(50, 0.5, 0)
    x = np.float32(x)
    seen, fit = [], OneScale.fit

    def watched(self, rows, labels=None):
        seen.append({tuple(row) for row in rows})
        return fit(self, rows, labels)

    monkeypatch.setattr(OneScale, "fit", watched)
    classification.cross_validated(Candidate("SVM", "one scale", {"C": 1.0, "gamma": 1.0}), x, y)
    everything = {tuple(row) for row in x}
    held = [everything - rows for rows in seen]
    assert len(held) == classification.FOLDS and set.union(*held) == everything
    assert sum(map(len, held)) == len(everything)  # each once


def test_out_of_fold_accuracy_is_that_of_scikit_learn():
    x, y = blobs(90, 0.6, 1)
    candidate = Candidate("SVM", "standardised", {"C": 1.0, "gamma": 1.0})
    folds = StratifiedKFold(classification.FOLDS, shuffle=True, random_state=4)
    right = 0
    for seen, held in folds.split(x, y):
        model = candidate.model(3).fit(x[seen], y[seen])
        right += (model.predict(x[held]) == y[held]).sum()
    assert classification.cross_validated(candidate, x, y, 4).accuracy == right / len(y)


@pytest.mark.usefixtures("two_kinds")
@pytest.mark.parametrize("counts", [(1, 9, 9), (2, 2, 2), (1, 1, 2, 2), (40, 3)])
def test_rare_classes_do_not_stop_the_choice(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    x = np.eye(len(counts))[labels] + np.random.default_rng(0).normal(size=(len(labels), 1))
    for kind in ("one scale", "standardised"):
        found = classification.cross_validated(
            Candidate("SVM", kind, {"C": 1, "gamma": 1}), x, labels
        )
        assert 0 <= found.accuracy <= 1 and np.isfinite(found.loss)
    assert classification.choose(x, labels, 1000).rows == len(labels)


@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0], [0, 0, 0, 1]])
def test_nothing_to_tell_apart_is_refused(labels):
    labels = np.array(labels, int)
    assert not classification.possible(labels)
    with pytest.raises(ValueError, match="two classes with two examples each"):
        classification.choose(np.zeros((len(labels), 2)), labels, 10)


@pytest.mark.usefixtures("two_kinds")
@pytest.mark.parametrize("counts", [(20, 20, 20), (58, 1, 2)])
@pytest.mark.parametrize("rows", [2, 3, 4])
def test_few_rows_have_as_many_classes_as_they_can(counts, rows):
    y = np.repeat(np.arange(3), counts)
    x = np.eye(3)[y]
    for seed in range(10):
        few, labels = classification.subset(x, y, rows, seed)
        assert len(np.unique(labels)) == min(rows, 3) and len(labels) == rows
        np.testing.assert_array_equal(few, np.eye(3)[labels])
    assert classification.choose(x, y, rows).rows == rows


def test_a_choice_among_few_rows_does_not_take_all_there_are(monkeypatch):
    monkeypatch.setattr(classification, "SELECTION_ROWS", 12)
    y, seen = np.arange(90) % 3, []
    tried = tried_as_one(seen)
    monkeypatch.setattr(classification, "cross_validated", tried)
    assert classification.choose(np.eye(3)[y], y, rows=3).rows == 3
    assert set(seen) == {12}


def tried_as_one(seen):
    def cross_validated(candidate, x, y, seed):
        seen.append(len(x))
        return Tried(candidate, 1.0, 0.0)

    return cross_validated


def test_equal_features_are_guessed_without_nan():
    labels = np.arange(40) % 2
    found = classification.choose(np.full((40, 3), 0.2, np.float32), labels, 100)
    assert found.chosen.loss == pytest.approx(np.log(2), abs=1e-3)


@pytest.mark.usefixtures("two_kinds")
def test_rows_are_limited_and_stratified(monkeypatch):
    monkeypatch.setattr(classification, "SELECTION_ROWS", 20)
    y, asked = np.repeat(range(3), [50, 30, 20]), []
    x = np.eye(3)[y]
    fitted = classification.fitted

    def watched(model, x, y):
        asked.append(np.bincount(y).tolist())
        return fitted(model, x, y)

    monkeypatch.setattr(classification, "fitted", watched)
    assert classification.choose(x, y, rows=40).rows == 40
    assert asked[-1] == [20, 12, 8]
    assert all(sum(counts) in range(15, 18) for counts in asked[:-1])  # of 20, a fold less


def test_constants_at_an_end_of_their_grid_are_named():
    ends = classification.GRIDS["SVM"]
    inside = {"C": (1.0, 10.0, 100.0), "gamma": ends["gamma"]}
    classification.GRIDS = {**SMALL, "SVM": inside}
    middle = Candidate("SVM", "one scale", {"C": 10.0, "gamma": 1.0})
    assert middle.at_end() == ["gamma"]
    assert str(middle) == "SVM, C=10, gamma=1/d, one scale"


# ---- log-loss at the best temperature ----


@given(st.integers(0, 100), st.floats(0.01, 100), st.floats(-5, 5))
def test_log_loss_forgets_scale_and_offset_and_is_at_most_the_plain_one(seed, scale, offset):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 200)
    scores = random.normal(size=(200, 4)) + 2 * np.eye(4)[labels]
    plain = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    found = classification.log_loss(scores, labels)
    assert found <= cross_entropy(labels, plain) + 1e-6
    assert classification.log_loss(scale * scores + offset, labels) == pytest.approx(
        found, abs=1e-4
    )


def test_log_loss_of_true_log_probabilities_is_their_own():
    random = np.random.default_rng(0)
    logits = random.normal(size=(50_000, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (random.random(len(logits))[:, None] > probabilities.cumsum(1)).sum(1)
    own = cross_entropy(labels, probabilities)
    assert classification.log_loss(3 * logits, labels) == pytest.approx(own, abs=1e-3)


# ---- statistics ----


@given(st.integers(1, 1000), st.data())
def test_wilson_solves_its_equation(count, data):
    """Wilson (1927): the ends are the p with |share - p| = z sqrt(p (1 - p) / n)."""
    right = data.draw(st.integers(0, count))
    z, share = 1.959963984540054, right / count
    for end in classification.wilson(right, count):
        assert (share - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / count, abs=1e-9)


# Discordant pairs and p: 2 P(X <= min) for X ~ Binomial(n, 1/2), by hand.
KNOWN = [(0, 0, 1.0), (1, 1, 1.0), (5, 0, 2 / 32), (6, 1, 16 / 128), (10, 2, 158 / 4096)]


@pytest.mark.parametrize(("a", "b", "p"), KNOWN)
def test_mcnemar_by_hand(a, b, p):
    first = np.array([True] * a + [False] * b + [True, False] * 4)
    second = np.array([False] * a + [True] * b + [True, False] * 4)
    assert classification.mcnemar(first, second) == (a, b, pytest.approx(p))
    assert classification.mcnemar(second, first) == (b, a, pytest.approx(p))


def test_mcnemar_counts_as_the_binomial_does():
    p = [classification.mcnemar(*discordant(20, k))[2] for k in range(11)]
    assert all(a < b for a, b in pairwise(p[:-1]))
    np.testing.assert_allclose(p[:10], 2 * binom.cdf(range(10), 20, 0.5))


def discordant(count, wins):
    first = np.arange(count) < wins
    return first, ~first


@pytest.mark.usefixtures("two_kinds")
def test_latents_stand_first_and_others_are_compared_with_them(capsys):
    features, labels = three(0.4)
    noise = [part + np.random.default_rng(1).normal(size=part.shape) for part in features]
    found = classification.compare({"latents": features, "pixels": noise}, labels, 1000)
    assert "p" not in found["latents"] and 0 < found["pixels"]["p"] <= 1
    assert found["latents"]["test"] > found["pixels"]["test"]
    for result in found.values():
        low, high = result["interval"]
        assert low <= result["test"] <= high
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[0].startswith("classifier on latents: ")
