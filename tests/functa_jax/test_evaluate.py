"""Evaluation: averages of PSNR, PCA against its definition, classifiers chosen on validation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from functa_jax import evaluate, siren
from functa_jax.functa import Functa

RANDOM = np.random.default_rng(0)
SMOOTH = np.cumsum(RANDOM.normal(size=(60, 4, 6, 1)), axis=2)  # neighbours alike, as in images
IMAGES = np.clip(128 + 40 * SMOOTH, 0, 255).astype(np.uint8)
TRAIN, TEST = IMAGES[:40], IMAGES[40:]


# ---- PSNR ----


def test_mean_psnr_by_hand():
    # 0.01 and 0.0001 are 20 and 40 dB: their mean is 30, where the mean error has 23 dB.
    np.testing.assert_allclose(evaluate.mean_psnr(np.array([1e-2, 1e-4])), 30)
    errors = np.array([[1.0, 1e-1], [1e-2, 1e-3]])
    np.testing.assert_allclose(evaluate.mean_psnr(errors), [10, 20])


@given(arrays(np.float64, (6, 2), elements=st.floats(1e-9, 1)))
def test_mean_of_psnr_is_at_least_psnr_of_the_mean(errors):
    bound = -10 * np.log10(errors.mean(0))
    assert (evaluate.mean_psnr(errors) >= bound - 1e-9).all()


def test_a_perfect_image_leaves_the_mean_finite():
    assert np.isfinite(evaluate.mean_psnr(np.array([0.0, 0.01])))


def test_psnr_after_steps_is_the_mean_over_the_course():
    config = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=5.0)
    functa = Functa(config, siren.init(config, 0), (4, 6))
    psnr = evaluate.psnr_after_steps(functa, IMAGES[:7], steps=(0, 1, 3))
    _, errors = functa.course(IMAGES[:7], steps=3)
    assert list(psnr) == [0, 1, 3]
    for step, value in psnr.items():
        np.testing.assert_allclose(value, np.mean(-10 * np.log10(errors[:, step])), rtol=1e-5)
    assert psnr[3] == pytest.approx(functa.encode(IMAGES[:7])[1].mean(), rel=1e-5)


# ---- PCA ----


def test_as_rows_keeps_every_number_in_its_place():
    images = RANDOM.integers(0, 256, (3, 4, 5, 2), np.uint8)
    rows = evaluate.pixel_rows(images)
    assert rows.dtype == np.float32 and rows.shape == (3, 40)
    for place in np.ndindex(4, 5, 2):
        at = (place[0] * 5 + place[1]) * 2 + place[2]
        np.testing.assert_allclose(rows[:, at], images[:, *place] / 255, rtol=1e-6)


@pytest.mark.parametrize("components", [1, 5, 23])
def test_pca_psnr_is_that_of_the_singular_vectors(components):
    train, test = (images.reshape(len(images), -1) / 255 for images in (TRAIN, TEST))
    centre = train.mean(0)
    axes = np.linalg.svd(train - centre)[2][:components]
    rebuilt = centre + (test - centre) @ axes.T @ axes
    expected = np.mean(-10 * np.log10(((rebuilt - test) ** 2).mean(1)))
    model = evaluate.pca(TRAIN, components)
    assert evaluate.pca_psnr(model, TEST) == pytest.approx(expected, abs=1e-3)


def test_pca_psnr_does_not_depend_on_pieces():
    model = evaluate.pca(TRAIN, 3)
    many = np.concatenate([TEST] * 251)  # 5,020 images: one piece and a bit
    assert evaluate.pca_psnr(model, many) == pytest.approx(evaluate.pca_psnr(model, TEST), rel=1e-6)


@pytest.mark.parametrize("images", [TRAIN, TRAIN[:10]], ids=["as many as pixels", "as images"])
def test_no_pca_that_would_be_a_copy(images):
    most = min(len(images), 4 * 6)
    assert evaluate.pca(images, most) is None and evaluate.pca(images, most + 1) is None
    assert evaluate.pca(images, most - 1).n_components_ == most - 1


# ---- classifiers ----


def blobs(rows, spread, seed):
    """Features (rows, 3) about the unit vector of their label, of which there are three."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    return np.eye(3)[labels] + spread * random.normal(size=(rows, 3)), labels


def test_separable_classes_are_told_apart():
    result = evaluate.classify(*(blobs(90, 0.05, seed) for seed in range(3)), rows=60)
    assert result["val"] == result["test"] == 1 and result["rows"] == 60


def test_random_labels_are_guessed_at_chance():
    random = np.random.default_rng(0)
    splits = [(random.normal(size=(n, 4)), random.integers(0, 3, n)) for n in (200, 200, 600)]
    result = evaluate.classify(*splits, rows=1000)
    assert abs(result["test"] - 1 / 3) < 5 * np.sqrt(2 / 9 / 600)  # 5 standard deviations
    assert result["rows"] == 200


def test_test_labels_do_not_change_the_choice():
    train, val, (x, y) = (blobs(90, 0.7, seed) for seed in range(3))
    once = evaluate.classify(train, val, (x, y), rows=90)
    other = evaluate.classify(train, val, (x, (y + 1) % 3), rows=90)
    assert once["test"] != other["test"]
    assert {**once, "test": None} == {**other, "test": None}


class Always:
    """A classifier with one answer, and a record of the rows it was given to learn from."""

    def __init__(self, answer, fits):
        self.answer, self.fits = answer, fits

    def fit(self, x, y):
        self.fits.append((self.answer, len(x), np.bincount(y).tolist()))
        return self

    def score(self, x, y):
        return np.mean(y == self.answer)


@pytest.fixture
def constants(monkeypatch):
    """Three constant classifiers in the place of ours; a list of their fits."""
    fits = []
    classifiers = {str(answer): lambda answer=answer: Always(answer, fits) for answer in range(3)}
    monkeypatch.setattr(evaluate, "CLASSIFIERS", classifiers)
    return fits


def split_with(counts):
    labels = np.repeat(range(3), counts)
    return np.zeros((len(labels), 2)), labels


@pytest.mark.parametrize("favourite", range(3))
def test_the_best_on_validation_is_chosen(favourite, constants):
    val = split_with(np.where(np.arange(3) == favourite, 8, 1))
    test = split_with(np.where(np.arange(3) == favourite, 1, 12))
    result = evaluate.classify(split_with([30, 6, 6]), val, test, rows=1000)
    assert result == {"classifier": str(favourite), "rows": 42, "val": 0.8, "test": 1 / 25}


def test_rows_are_limited_and_stratified(constants, monkeypatch):
    monkeypatch.setattr(evaluate, "SELECTION_ROWS", 10)
    train, other = split_with([50, 30, 20]), split_with([1, 2, 3])
    assert evaluate.classify(train, other, other, rows=40)["rows"] == 40
    choosing = [(answer, 10, [5, 3, 2]) for answer in range(3)]
    assert constants == [*choosing, (2, 40, [20, 12, 8])]
