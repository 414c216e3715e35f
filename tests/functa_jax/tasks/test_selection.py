"""What classifiers are chosen on: folds without leaks, features, augmented images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.evaluation import classification
from functa_jax.tasks import classify, task
from functa_jax.tasks.classification import features, selection
from functa_jax.training.exporter import Augmentation
from groundfloor.data import datasets
from tests.functa_jax.tasks.conftest import IMAGES


def split_of(labels, shift=0):
    """A Split whose images are their own numbers."""
    labels = np.asarray(labels, int)
    images = np.uint8(np.arange(len(labels)) + shift).reshape(-1, 1, 1, 1)
    return datasets.Split(images, labels, np.arange(len(labels)))


def labelled_of(train, val, seed=0):
    parts = split_of(train), split_of(val, len(train)), split_of([0, 1])
    return selection.Labelled(datasets.Dataset("x", *parts, 3, ""), seed)


@given(st.integers(0, 99), st.integers(15, 40), st.integers(0, 9), st.integers(0, 2))
def test_no_copy_of_an_image_that_is_held_out_is_learnt_from(seed, n, n_val, copies):
    labels = np.random.default_rng(seed).permutation(np.arange(n + n_val) % 3)
    labelled = labelled_of(labels[:n], labels[n:], seed)
    rows = np.tile(np.arange(n), 1 + copies).astype(float)[:, None]  # features name their image
    held_out = np.arange(n, n + n_val).astype(float)[:, None]
    kind = features.Features("x", rows, held_out, None, None, 0)
    every = labelled.features(kind)[:, 0]
    np.testing.assert_array_equal(every, np.arange(n + n_val))
    assert (
        labelled.folded
        and sorted(np.concatenate([h for _, h in labelled.splits])) == every.tolist()
    )
    for seen, held in labelled.splits:
        assert not {*seen} & {*held} and {*seen} | {*held} == {*every}
        found, their = labelled.copies(kind, seen)
        assert len(found) == copies * (seen < n).sum() and not np.isin(found, held).any()
        np.testing.assert_array_equal(their, labelled.labels[found[:, 0].astype(int)])


def test_enough_images_of_validation_are_what_is_judged_on():
    labelled = labelled_of(np.arange(90) % 3, np.arange(selection.ENOUGH) % 3)
    ((seen, held),) = labelled.splits
    assert not labelled.folded and np.array_equal(seen, labelled.final)
    assert (seen.max(), held.min(), len(held)) == (89, 90, selection.ENOUGH)
    assert "on 1,000 validation images" in labelled.how()


def test_judged_on_what_is_held_out_alone():
    """A model that knows all it has learnt from and nothing else is right as often as chance."""
    labels = np.random.default_rng(0).permutation(np.arange(300) % 3)
    labelled = labelled_of(labels, [])
    x = np.arange(300)

    def train(rows):
        memory = dict(zip(x[rows], labels[rows], strict=True))
        return lambda x: np.array([np.eye(3)[memory.get(i, 0)] for i in x])

    accuracy, loss, _ = labelled.judged(x, train)
    assert accuracy == pytest.approx(np.mean(labels == 0))
    assert loss == pytest.approx(np.log(3), abs=1e-3)  # the best temperature makes it uniform


def entry_of(accuracy, loss):
    return selection.Entry(None, "", "", 0, accuracy, loss, 0.0, [], None)


def test_of_classifiers_that_are_right_as_often_the_surer_one_is_chosen():
    entries = [entry_of(0.9, 0.1), entry_of(0.95, 0.4), entry_of(0.95, 0.3), entry_of(0.95, 0.5)]
    assert selection.best(entries) is entries[2] and selection.best([]) is None


def test_scales_of_one_number_or_of_each_channel():
    x = np.random.default_rng(0).normal(3, [1.0, 10.0, 0.0], (50, 2, 2, 3)).astype(np.float32)
    mean, std = features.scales(x, "scalar")
    np.testing.assert_allclose([mean, std], [x.mean(), x.std()], rtol=1e-5)
    mean, std = features.scales(x, "channel")
    scaled = (x - mean) / std
    np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 1, 2)), [1, 1, 0], atol=1e-5)


def test_subset_keeps_the_proportions_of_classes():
    y = np.repeat([0, 1], [300, 100])
    x, kept = classification.subset(np.arange(400), y, 40, seed=0)
    assert np.bincount(kept).tolist() == [30, 10]
    np.testing.assert_array_equal(y[x], kept)
    assert classification.subset(x, kept, 40, seed=0)[0] is x


def test_stream_goes_through_all_images_copy_after_copy():
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), np.uint8)
    augmentation, starts = Augmentation(pad=1, seed=3), []
    stream = features.Stream(images, lambda x: x, augmentation, first=100, rows=4)
    for number in range(6):
        row, found = stream(number)
        start, copy = row - 100, 1 + number // 3
        starts.append(start)
        expected = augmentation(images[start : start + 4], copy, start)
        np.testing.assert_array_equal(found, expected)
    assert starts == [0, 4, 8] * 2


@pytest.mark.parametrize("folded", [True, False])
def test_shallow_classifiers_are_those_of_scikit_learn(folded, grids, monkeypatch):
    monkeypatch.setattr(selection, "ENOUGH", 1000 if folded else 1)
    monkeypatch.setitem(classification.GRIDS, "SVM", {"C": (1.0, 10.0), "gamma": (1.0,)})
    config = classify.Config(run=grids)
    material = task.load(config)
    latents, *_ = features.of_images(material, whole=False)
    labelled = selection.Labelled(material.data, 0)
    entry = selection.shallow(config, labelled, latents, "SVM")
    assert entry.rows == len(labelled.final) == (2 if folded else 1) * IMAGES  # without copies
    x = labelled.features(latents).reshape(2 * IMAGES, -1)
    tried = [
        classification.cross_validated(
            candidate, x[labelled.final], labelled.labels[labelled.final]
        )
        for candidate in classification.candidates(["SVM"])
    ]
    best = max(tried, key=lambda t: (t.accuracy, -t.loss))
    assert entry.settings in str(best.candidate)
    if folded:
        assert (entry.accuracy, entry.loss) == pytest.approx((best.accuracy, best.loss))
    else:
        model = best.candidate.model(x.shape[1]).fit(x[:IMAGES], labelled.labels[:IMAGES])
        score = model.score(x[IMAGES:], labelled.labels[IMAGES:])
        assert entry.accuracy == pytest.approx(score)
        np.testing.assert_array_equal(
            entry.predict(latents.test), model.predict(latents.test.reshape(IMAGES, -1))
        )
