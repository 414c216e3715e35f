"""Metrics in closed form; linear codes beside slow references."""

import numpy as np
import pytest
from scipy.fft import dct, idct
from sklearn.decomposition import PCA

from functa_jax.modalities import metrics, rivals, sound, video
from groundfloor.data.functions import Functions


def test_metrics_of_small_examples():
    values = np.array([[[1.0], [0.0], [1.0], [0.0]]])
    guess = np.array([[[0.9], [0.1], [0.2], [0.7]]])
    assert metrics.squared_error(guess, values) == pytest.approx((0.01 + 0.01 + 0.64 + 0.49) / 4)
    assert metrics.iou(guess, values) == pytest.approx(1 / 3)
    assert metrics.iou(0 * guess, 0 * values) == 1
    assert metrics.psnr(values + 0.1, values) == pytest.approx(20)
    assert metrics.snr(values + 0.05, values) == pytest.approx(20)  # its power is 1/4
    assert metrics.snr(values, values) == pytest.approx(120)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.iou, metrics.snr])
def test_weights_are_copies_of_points(metric):
    random = np.random.default_rng(0)
    values, guess = random.random((2, 3, 5, 2))
    times = np.array([2, 0, 1, 3, 1])
    repeated = metric(np.repeat(guess, times, 1), np.repeat(values, times, 1))
    assert np.allclose(metric(guess, values, times), repeated)
    assert np.allclose(metric(guess, values, np.tile(times, (3, 1))), repeated)
    masked = np.where(times[:, None] > 0, guess, 99)
    assert np.allclose(metric(masked, values, times), repeated)


@pytest.mark.parametrize("shape", [(20, 9), (9, 20)])
def test_pca_is_that_of_scikit_learn(shape):
    rows = np.random.default_rng(0).standard_normal(shape)
    mean, basis = rivals.pca(rows, 4)
    other = PCA(4).fit(rows)
    assert np.allclose(mean, other.mean_)
    assert np.allclose(basis @ basis.T, other.components_.T @ other.components_)


def test_weighted_pca_is_pca_of_copies():
    rows = np.random.default_rng(0).standard_normal((30, 5))
    times = np.array([1, 2, 3, 1, 2])
    mean, basis = rivals.pca(rows, 2, times)
    assert np.allclose(basis.T @ (times[:, None] * basis), np.eye(2))
    other = PCA(2).fit(np.repeat(rows, times, 1))
    expected = other.inverse_transform(other.transform(np.repeat(rows, times, 1)))
    rebuilt = mean + (((rows - mean) * times) @ basis) @ basis.T
    assert np.allclose(np.repeat(rebuilt, times, 1), expected)


def test_cosines_of_sound_are_those_of_scipy():
    data = sound.load(speakers=10, samples=64)
    found = rivals.of(data, 16)
    assert set(found) == {"DCT, lowest", "DCT, largest", "PCA"}
    spectrum = dct(data.test.values[..., 0] - 0.5, norm="ortho")
    low = spectrum * (np.arange(64) < 16)
    assert np.allclose(found["DCT, lowest"](data.test)[..., 0], 0.5 + idct(low, norm="ortho"))
    kept = 0 * spectrum
    for row, line in zip(kept, spectrum, strict=True):
        largest = np.argsort(np.abs(line))[-8:]  # 8 values and 8 places
        row[largest] = line[largest]
    assert np.allclose(
        found["DCT, largest"](data.test)[..., 0], 0.5 + idct(kept, norm="ortho"), atol=1e-6
    )


def test_all_numbers_rebuild_all(tmp_path):
    data = video.load(tmp_path, dataset="digits", count=60, frames=2, side=8)
    truth = data.test.values / 255
    found = rivals.of(data, 128)
    assert np.allclose(found["DCT, lowest"](data.test), truth, atol=1e-5)
    half = rivals.of(data, 256)["DCT, largest"](data.test)
    assert np.allclose(half, truth, atol=1e-5)
    errors = [
        metrics.squared_error(rivals.of(data, count)["PCA"](data.train), data.train.values / 255)
        for count in (4, 16, 59)
    ]
    assert errors[0].mean() > errors[1].mean() > errors[2].mean()
    assert errors[2].max() < 1e-8


def test_lowest_frequencies_of_a_film_are_a_ball_about_zero():
    kept = rivals._lowest((4, 4, 4), 4)
    assert np.array_equal(np.argwhere(kept), [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize("count", [0, 1, 3, 8, 20])
def test_the_largest_cosines_are_as_many_as_allowed(count):
    lattice = (8,)
    values = np.random.default_rng(0).random((2, 8, 1)).astype(np.float32)
    functions = Functions(values, np.zeros((8, 1), np.float32), np.zeros(2, int), np.arange(2))
    rebuilt = rivals._largest(lattice, count, functions)
    kept = np.abs(dct(rebuilt - 0.5, axis=1, norm="ortho")) > 1e-6
    assert (kept.sum((1, 2)) == min(count, 8)).all()


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_pca_of_functions_that_are_all_alike_is_their_mean(shape):
    rows = np.full(shape, 0.25)
    mean, basis = rivals.pca(rows, 3)
    assert np.isfinite(basis).all()
    np.testing.assert_allclose(mean + (rows - mean) @ basis @ basis.T, rows)
