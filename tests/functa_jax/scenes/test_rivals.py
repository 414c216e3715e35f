"""rivals: the Gaussian prior against its closed form, and the nearest scene."""

import numpy as np
import pytest

from functa_jax.scenes import rivals

GIVEN, WANTED = np.arange(4), np.arange(4, 10)


@pytest.fixture(scope="module")
def scenes():
    random = np.random.default_rng(0)
    return np.float32(0.5 + 0.1 * random.normal(size=(9, 3)) @ random.normal(size=(3, 10)))


def test_wiener_is_the_conditional_mean_of_the_gaussian(scenes):
    model, noise = rivals.LinearViews.of(scenes), 1e-2
    covariance = np.cov(np.float64(scenes), rowvar=False)
    seen = scenes[:2] + 0.05
    inner = covariance[np.ix_(GIVEN, GIVEN)] + noise * np.eye(4)
    gain = covariance[np.ix_(WANTED, GIVEN)] @ np.linalg.inv(inner)
    mean = scenes.mean(0)
    expected = mean[WANTED] + (seen[:, GIVEN] - mean[GIVEN]) @ gain.T
    np.testing.assert_allclose(model.predict(seen, GIVEN, WANTED, noise), expected, atol=1e-5)


def test_what_three_components_span_is_told_by_four_numbers(scenes):
    model = rivals.LinearViews.of(scenes).first(3)
    predicted = model.predict(scenes, GIVEN, WANTED, 1e-9)
    np.testing.assert_allclose(predicted, scenes[:, WANTED], atol=1e-3)
    noise, psnr = model.best_noise(scenes, GIVEN, WANTED)
    assert noise == min(rivals.NOISES) and psnr > 35


def test_much_noise_leaves_the_mean_and_nothing_given_too(scenes):
    model = rivals.LinearViews.of(scenes)
    mean = np.broadcast_to(scenes.mean(0)[WANTED], (9, 6))
    np.testing.assert_allclose(model.predict(scenes, GIVEN, WANTED, 1e6), mean, atol=1e-4)
    np.testing.assert_allclose(model.predict(scenes, GIVEN[:0], WANTED, 1e-2), mean, atol=1e-6)


def test_the_nearest_scene_of_the_training_scenes_is_each_itself(scenes):
    np.testing.assert_array_equal(rivals.nearest(scenes, scenes, GIVEN, WANTED), scenes[:, WANTED])


def test_psnr_is_a_mean_over_pictures():
    true = np.zeros((1, 4))
    predicted = np.array([[0.1, 0.1, 0.01, 0.01]])
    assert rivals.view_psnr(predicted, true, views=2) == pytest.approx((20 + 40) / 2)
    assert rivals.view_psnr(predicted + 5, true) == pytest.approx(0)
