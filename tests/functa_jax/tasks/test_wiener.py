"""The linear rival: Wiener's filter and the mean of all possible images, for all that is seen."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import oas
from sklearn.decomposition import PCA

from functa_jax.evaluation import reconstruction
from functa_jax.tasks.restoration import fitting, wiener
from functa_jax.tasks.restoration.fitting import Seen
from functa_jax.tasks.restoration.wiener import Normal

SIDE, CHANNELS = 4, 2
D = SIDE * SIDE * CHANNELS
RANDOM = np.random.default_rng(0)


def normal_of(seed):
    random = np.random.default_rng(seed)
    root = random.normal(size=(D, D)) * np.geomspace(1, 0.01, D)
    return Normal(random.random(D), root @ root.T)


def seen_by(kind, n, seed):
    """(Seen of n pictures, A (n, m, D)): noisy ones, means over blocks, or with pixels hidden."""
    random = np.random.default_rng(seed)
    factor = 2 if kind == "block means" else 1
    side = SIDE // factor
    average = np.zeros((side * side * CHANNELS, D))
    for row, (i, j, c) in enumerate(np.ndindex(side, side, CHANNELS)):
        for k, m in np.ndindex(factor, factor):
            column = ((factor * i + k) * SIDE + factor * j + m) * CHANNELS + c
            average[row, column] = 1 / factor**2
    mask = np.ones((n, side, side))
    if kind == "masks":
        mask = (random.random(mask.shape) < 0.6).astype(float)
        mask[-1] = 0  # nothing is seen of the last
    pictures = random.normal(size=(n, side, side, CHANNELS))
    known = np.repeat(mask.reshape(n, -1), CHANNELS, axis=1)
    return Seen(pictures, mask, oversample=factor), known[:, :, None] * average


@pytest.mark.parametrize("kind", ["denoising", "block means", "masks"])
@given(seed=st.integers(0, 99), noise=st.floats(0.05, 2))
@settings(max_examples=15)
def test_the_most_probable_image_is_the_posterior_mean(kind, seed, noise):
    """By the precisions of prior and errors, which the code never forms."""
    normal = normal_of(seed)
    seen, seeing = seen_by(kind, 3, seed)
    found = wiener.most_probable(normal, seen, noise).reshape(3, D)
    prior = np.linalg.inv(normal.covariance)
    for picture, a, image in zip(seen.pictures, seeing, found, strict=True):
        right = prior @ normal.mean + a.T @ picture.ravel() / noise**2
        expected = np.linalg.solve(prior + a.T @ a / noise**2, right)
        np.testing.assert_allclose(image, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["denoising", "block means", "masks"])
def test_nothing_linear_restores_gaussian_images_better(kind):
    """Over many draws: the error is what the posterior covariance says, and no other noise's."""
    normal, noise, n = normal_of(1), 0.3, 4000
    seen, seeing = seen_by(kind, 2, 1)
    a = seeing[0]
    images = RANDOM.multivariate_normal(normal.mean, normal.covariance, n)
    pictures = images @ a.T + noise * RANDOM.normal(size=(n, len(a)))
    side = seen.pictures.shape[1]
    many = Seen(
        pictures.reshape(n, side, side, CHANNELS), seen.mask[[0] * n], oversample=seen.oversample
    )
    errors = [
        np.mean((wiener.most_probable(normal, many, s).reshape(n, D) - images) ** 2)
        for s in (noise, 3 * noise, noise / 3)
    ]
    known = a[a.any(axis=1)]
    gain = normal.covariance @ known.T
    middle = known @ gain + noise**2 * np.eye(len(known))
    left = normal.covariance - gain @ np.linalg.solve(middle, gain.T)
    assert errors[0] == pytest.approx(np.trace(left) / D, rel=0.1)
    assert errors[0] < min(errors[1:])


def test_images_are_one_gaussian_shrunk_by_oas():
    images = RANDOM.integers(0, 256, (30, 3, 4, 2), np.uint8)
    rows = reconstruction.pixel_rows(images)
    normal = Normal.of_images(images)
    np.testing.assert_allclose(normal.mean, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(normal.covariance, oas(rows.astype(float))[0], atol=1e-5)


def test_fewer_images_than_pixels_leave_no_direction_without_variance():
    normal = Normal.of_images(RANDOM.integers(0, 256, (5, 4, 4, 2), np.uint8))
    assert np.linalg.eigvalsh(normal.covariance)[0] > 1e-4


# ---- as many components as a latent has numbers ----


@pytest.fixture(scope="module")
def pca():
    rows = np.random.default_rng(2).normal(size=(60, D)) @ np.diag(np.linspace(2, 0.1, D))
    return PCA(6).fit(rows)


@pytest.mark.parametrize("noise", [0.01, 0.7])
def test_pca_of_all_pixels_is_its_projection_shrunk(pca, noise):
    rows = RANDOM.normal(size=(5, D))
    shrunk = pca.explained_variance_ / (pca.explained_variance_ + noise**2)
    seen = Seen(rows.reshape(5, SIDE, SIDE, CHANNELS))
    found = wiener.most_probable(Normal.of_pca(pca), seen, noise).reshape(5, D)
    expected = pca.inverse_transform(pca.transform(rows) * shrunk)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["block means", "masks"])
def test_pca_of_what_is_seen_is_the_augmented_least_squares(pca, kind):
    noise = 0.3
    seen, seeing = seen_by(kind, 4, 3)
    found = wiener.most_probable(Normal.of_pca(pca), seen, noise).reshape(4, D)
    ridge = np.diag(noise / np.sqrt(pca.explained_variance_))
    for picture, a, image in zip(seen.pictures, seeing, found, strict=True):
        y = np.where(a.any(axis=1), picture.ravel() - a @ pca.mean_, 0)
        rows = np.vstack([a @ pca.components_.T, ridge])
        c = np.linalg.lstsq(rows, np.append(y, np.zeros(6)), rcond=None)[0]
        np.testing.assert_allclose(image, pca.inverse_transform(c[None])[0], atol=1e-6)


def test_a_prior_of_coefficients_is_asked_level_by_level(pca):
    """With the denoiser of N(0, scale**2) each round is a ridge regression around its answer."""
    scale, noise = 1.5, 0.4
    prior = SimpleNamespace(scale=scale, denoise=lambda c, level: c / (1 + level**2))
    seen, seeing = seen_by("masks", 3, 5)
    start = RANDOM.normal(size=(3, SIDE, SIDE, CHANNELS))
    found = wiener.by_prior(pca, seen, start, prior, noise).reshape(3, D)
    coefficients = pca.transform(start.reshape(3, D))
    for picture, a, c, image in zip(seen.pictures, seeing, coefficients, found, strict=True):
        basis = a @ pca.components_.T
        y = np.where(a.any(axis=1), picture.ravel() - a @ pca.mean_, 0)
        for level in fitting.PRIOR_LEVELS:
            around, ridge = c / (1 + level**2), (noise / (level * scale)) ** 2
            left = basis.T @ basis + ridge * np.eye(6)
            c = np.linalg.solve(left, basis.T @ y + ridge * around)
        np.testing.assert_allclose(image, pca.inverse_transform(c[None])[0], atol=1e-5)
