"""Fitting latents to what was seen: slow references, closed forms, and what must not matter."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.covariance import oas
from sklearn.decomposition import PCA

from functa_jax.functa import Functa
from functa_jax.model import siren
from functa_jax.tasks.restoration import fitting, wiener
from functa_jax.tasks.restoration.fitting import Gaussian, Seen
from functa_jax.tasks.restoration.wiener import Normal
from functa_jax.training.inner_loop import image_loss

PLAIN = siren.ModelConfig(1, width=8, depth=3, latent_dim=4, w0=5.0, rate_start=1.0)
CELLS = replace(PLAIN, channels=2, grid=2, coordinates="local")
SMOOTH = replace(PLAIN, grid=2, interpolation="bilinear", map_size=3, step_rates=2)
KINDS = {"plain": PLAIN, "cells": CELLS, "smooth": SMOOTH}
SIDE, STEPS = 8, 2
RANDOM = np.random.default_rng(0)


def functa_of(config):
    return Functa(config, siren.init(config, 0), (SIDE, SIDE), penalty=0.01)


def pictures(config, n=4, side=SIDE):
    return RANDOM.random((n, side, side, config.channels), np.float32)


@pytest.fixture(scope="module", params=KINDS)
def functa(request):
    return functa_of(KINDS[request.param])


def gaussian_of(config, seed=0):
    shape = (50, *config.latent_shape)
    return Gaussian.of(np.random.default_rng(seed).normal(1, 0.5, shape))


# ---- the inner loop ----


def test_all_pixels_seen_is_encoding(functa):
    images = pictures(functa.config)
    expected, _ = functa.course(images, STEPS)
    for seen in (Seen(images), Seen(images, np.full(images.shape[:3], 0.5))):
        np.testing.assert_allclose(fitting.course(functa, seen, STEPS), expected, atol=1e-6)


def test_pictures_smaller_than_the_grid_are_fitted_at_points():
    functa = functa_of(replace(CELLS, grid=4))
    small = pictures(functa.config, side=2)
    latents = fitting.course(functa, Seen(small), 1)[:, -1]
    moved = np.abs(latents).max(axis=-1) > 0
    expected = np.zeros((4, 4), bool)
    expected[1::2, 1::2] = True  # where the centres 1/4 and 3/4 lie
    np.testing.assert_array_equal(moved, np.broadcast_to(expected, moved.shape))


@pytest.mark.slow
def test_coarse_pictures_met_at_their_centres(functa):
    images = pictures(functa.config, side=SIDE // 2)
    expected, _ = replace(functa, resolution=(SIDE // 2,) * 2).course(images, STEPS)
    found = fitting.course(functa, Seen(images), STEPS)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_step_against_an_obvious_loop(functa):
    """A masked picture, seen as averages of 2 x 2: its gradient, pixel by pixel."""
    config, side = functa.config, SIDE // 2
    picture, mask = pictures(config, 1, side)[0], RANDOM.random((side, side)) < 0.6
    mask[0, 0] = True
    cell = side // (config.grid or 1)
    average, weights = np.zeros((side**2, SIDE**2), np.float32), np.zeros(side**2, np.float32)
    for pixel, (i, j) in enumerate(np.ndindex(side, side)):
        for k, m in np.ndindex(2, 2):
            average[pixel, (2 * i + k) * SIDE + 2 * j + m] = 1 / 4
        top, left = i // cell * cell, j // cell * cell
        known = mask[top : top + cell, left : left + cell].mean()
        weights[pixel] = mask[i, j] / known if known else 0
    model = siren.with_params(config, functa.params)

    def loss(latent):
        colours = average @ model.at(siren.coordinate_grid(SIDE), latent)
        errors = ((colours - picture.reshape(side**2, -1)) ** 2).mean(1)
        return jnp.mean(weights * errors) + 0.01 * jnp.mean(latent**2)

    start = jnp.zeros(config.latent_shape)
    expected = start - model.step(config.cells * jax.jit(jax.grad(loss))(start), 0)
    seen = Seen(picture[None], mask[None], oversample=2)
    np.testing.assert_allclose(fitting.course(functa, seen, 1)[0, 1], expected, atol=1e-6)


def test_a_hidden_cell_changes_no_other():
    functa = functa_of(CELLS)
    images, mask = pictures(CELLS), np.ones((4, SIDE, SIDE))
    mask[:, : SIDE // 2, : SIDE // 2] = 0
    latents = fitting.course(functa, Seen(images, mask), STEPS)[:, -1]
    expected = functa.encode(images, STEPS)[0]
    np.testing.assert_array_equal(latents[:, 0, 0], 0)
    for cell in ((0, 1), (1, 0), (1, 1)):
        np.testing.assert_allclose(latents[:, *cell], expected[:, *cell], atol=1e-6)


@given(st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=10)
def test_known_pixels_of_each_cell_weigh_as_much_as_all(s, seed):
    config = replace(CELLS, grid=s)
    masks = (np.random.default_rng(seed).random((2, 6, 12)) < 0.3).astype(np.float32)
    weights = fitting._per_cell(config, masks)
    assert (weights[masks == 0] == 0).all()
    blocks = [x.reshape(2, s, 6 // s, s, 12 // s) for x in (weights, masks)]
    means, known = (x.mean((2, 4)) for x in blocks)
    np.testing.assert_allclose(means, known > 0, atol=1e-5)


# ---- what must not matter ----


def fits(functa, seen):
    gaussian = gaussian_of(functa.config)
    yield fitting.course(functa, seen, STEPS)
    yield fitting.refine(functa, seen, gaussian, 0.1)
    rows = np.random.default_rng(1).random((20, functa.config.channels * SIDE**2))
    yield wiener.most_probable(Normal.of_pca(PCA(3).fit(rows)), seen, 0.1)


def test_hidden_pixels_do_not_matter(functa):
    images = pictures(functa.config)
    mask = RANDOM.random(images.shape[:3]) < 0.5
    other = np.where(mask[..., None], images, 1e3).astype(np.float32)
    for one, two in zip(
        fits(functa, Seen(images, mask)), fits(functa, Seen(other, mask)), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_other_images_do_not_matter(functa, monkeypatch):
    images = pictures(functa.config, 6)
    mask = RANDOM.random(images.shape[:3]) < 0.5
    monkeypatch.setattr(fitting, "BATCH", 4)  # the last batch is padded
    together = list(fits(functa, Seen(images, mask)))
    for rows in (slice(4), slice(3, 4)):
        for whole, found in zip(
            together, fits(functa, Seen(images[rows], mask[rows])), strict=True
        ):
            np.testing.assert_allclose(found, whole[rows], atol=1e-5)


# ---- the most probable latent ----


@pytest.fixture(scope="module")
def straight():
    """A functa whose pictures are linear in the latent: sines of small angles, made up for."""
    w0 = 1e-2
    config = replace(CELLS, w0=w0, channels=3, latent_dim=2)
    params = jax.tree.map(lambda x: x, siren.init(config, 1))
    # Standard initial weights behind a sine are of order 1 / w0, so that its slope w0 cancels.
    functa = Functa(config, params, (4, 4))
    zero, one = (np.full((1, *config.latent_shape), x, np.float32) for x in (0.0, 1.0))
    parts = [functa.decode(t * one) - functa.decode(zero) for t in (0.5, 1.0)]
    np.testing.assert_allclose(2 * parts[0], parts[1], rtol=1e-2, atol=1e-3)
    assert np.abs(parts[1]).max() > 0.1
    return functa


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_refining_a_linear_functa_is_the_ridge_solution(straight, noise):
    config = straight.config
    gaussian, size = gaussian_of(config, 3), config.numbers
    mean, factor = gaussian.mean, gaussian.factor
    base = straight.decode(mean.reshape(1, *config.latent_shape)).astype(np.float64).ravel()
    steps = (mean + 0.01 * np.eye(size)).reshape(size, *config.latent_shape)
    slopes = (straight.decode(steps).reshape(size, -1) - base).T / 0.01  # (numbers seen, L)

    rng = np.random.default_rng(5)
    images, mask = rng.random((3, 4, 4, 3), np.float32), rng.random((3, 4, 4)) < 0.7
    found = fitting.refine(straight, Seen(images, mask), gaussian, noise, steps=1000)
    covariance = factor.T @ factor
    for image, shown, latent in zip(images, mask, found, strict=True):
        known = np.repeat(shown.ravel(), 3)
        a, y = slopes[known], (image.ravel() - base)[known]
        gain = covariance @ a.T @ np.linalg.inv(a @ covariance @ a.T + noise**2 * np.eye(len(y)))
        np.testing.assert_allclose(latent.ravel(), mean + gain @ y, atol=0.02)


def test_much_noise_leaves_the_mean(functa):
    gaussian = gaussian_of(functa.config)
    images = pictures(functa.config)
    found = fitting.refine(functa, Seen(images), gaussian, 1e3, start=functa.encode(images)[0])
    np.testing.assert_allclose(found.reshape(4, -1), np.tile(gaussian.mean, (4, 1)), atol=0.05)


@pytest.mark.slow
def test_refining_without_noise_lowers_the_error(functa):
    images = pictures(functa.config)
    start, before = functa.course(images, 1)
    gaussian = gaussian_of(functa.config)
    found = fitting.refine(functa, Seen(images), gaussian, 0.0, start=start[:, 1])
    model = siren.with_params(functa.config, functa.params)
    points = siren.points(functa.config, functa.resolution)
    for latent, image, error in zip(
        found, siren.arrange(functa.config, images), before[:, 1], strict=True
    ):
        assert image_loss(model, points, latent, image)[1] < error


def test_a_prior_alone_denoises_again_and_again(functa, monkeypatch):
    """What is hardly seen goes where the prior draws it: here to its mean, level by level."""
    mean, scale = np.full(functa.config.latent_shape, 2.0), 0.5

    def denoise(latents, level):  # the posterior mean of N(mean, scale**2)
        return mean + (latents - mean) / (1 + level**2)

    monkeypatch.setattr(fitting, "PRIOR_STEPS", fitting.REFINE_STEPS)  # compiled already
    prior = SimpleNamespace(mean=mean, scale=scale, denoise=denoise)
    images = pictures(functa.config)
    start = RANDOM.normal(size=(4, *functa.config.latent_shape))
    found = fitting.refine_by_prior(functa, Seen(images), start, prior, noise=1e3)
    drawn = np.prod([1 / (1 + level**2) for level in fitting.PRIOR_LEVELS])
    np.testing.assert_allclose(found, mean + (start - mean) * drawn, atol=0.05)


@given(arrays(float, (12, 3), elements=st.floats(-3, 3, width=16)))
@settings(max_examples=10)
def test_whitening(noise):
    latents = np.random.default_rng(0).normal(size=(12, 3)) @ np.diag([5, 1, 0.3]) + 0.1 * noise
    gaussian = Gaussian.of(latents)
    white = gaussian.whiten(latents)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-5)
    covariance = oas(latents)[0]
    np.testing.assert_allclose(gaussian.factor.T @ gaussian.factor, covariance, atol=1e-6)
    turned = gaussian.inverse.T @ covariance @ gaussian.inverse
    np.testing.assert_allclose(turned, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(gaussian.colour(white, (3,)), latents, atol=1e-5)


def test_many_latents_are_hardly_shrunk():
    latents = RANDOM.normal(size=(20_000, 3)) @ np.diag([5, 1, 0.3])
    gaussian = Gaussian.of(latents)
    np.testing.assert_allclose(np.cov(gaussian.whiten(latents).T), np.eye(3), atol=0.02)


def test_latents_that_never_vary_are_kept():
    gaussian = Gaussian.of(np.full((20, 3), 7.0))
    assert np.isfinite(gaussian.whiten(np.full((2, 3), 7.0))).all()
    found = gaussian.colour(RANDOM.normal(size=(9, 3)), (3,))
    np.testing.assert_allclose(found, 7, atol=1e-6)
