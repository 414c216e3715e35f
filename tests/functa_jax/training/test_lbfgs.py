"""Fits that go on by L-BFGS: the minimum in closed form, never worse, each image alone."""

from dataclasses import replace

import numpy as np
import optax
import pytest
import scipy.optimize

from functa_jax import functa as functas
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import task
from functa_jax.training import exporter, lbfgs
from groundfloor.data import datasets
from tests.functa_jax.functas import CONFIG, FUNCTA, HEIGHT, PARAMS, WIDTH, fault

IMAGES = np.random.default_rng(0).random((3, HEIGHT, WIDTH, 1)).astype(np.float32)
LONG = replace(FUNCTA, lbfgs_steps=60)


def test_it_ends_where_scipys_ends():
    """Its minimum is a minimum: SciPy's simplex search, begun there, finds nothing better."""
    latents, psnr = LONG.encode(IMAGES)
    for latent, reached, image in zip(latents, psnr, IMAGES, strict=True):

        def error(z, image=image):
            return float(((LONG.decode(z[None].astype(np.float32))[0] - image) ** 2).mean())

        assert -10 * np.log10(error(latent)) == pytest.approx(reached, abs=1e-3)
        best = scipy.optimize.minimize(error, latent, method="Nelder-Mead").fun
        assert -10 * np.log10(best) < reached + 0.01


def test_a_linear_decoder_gives_least_squares():
    """Latents so small that pixels are linear in them."""
    functa = replace(FUNCTA, lbfgs_steps=30, penalty=0.01)
    small = replace(functa, params={**PARAMS, "inner_rate": np.full(4, 1e-6, np.float32)})
    scale = 1e-3  # so small that the sine is its argument
    steps = np.eye(4, dtype=np.float32) * scale
    base = functa.decode(np.zeros((1, 4), np.float32))[0].ravel()
    jacobian = ((functa.decode(steps) - functa.decode(-steps)) / (2 * scale)).reshape(4, -1).T
    target = base + 1e-3 * np.random.default_rng(1).normal(size=base.size)
    images = target.reshape(1, HEIGHT, WIDTH, 1).astype(np.float32)
    latents, _ = small.encode(images)
    pixels, numbers = jacobian.shape
    left = jacobian.T @ jacobian / pixels + functa.penalty / numbers * np.eye(numbers)
    wanted = np.linalg.solve(left, jacobian.T @ (target - base) / pixels)
    np.testing.assert_allclose(latents[0], wanted, rtol=0.02, atol=1e-2 * np.abs(wanted).max())


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_no_image_gets_worse_and_each_is_fitted_alone(steps):
    functa = replace(FUNCTA, lbfgs_steps=steps)
    latents, psnr = functa.encode(IMAGES)
    assert (psnr >= FUNCTA.encode(IMAGES)[1]).all()
    alone = np.concatenate([functa.encode(image[None])[0] for image in IMAGES])
    np.testing.assert_allclose(latents, alone, atol=1e-5)


def test_without_steps_it_is_the_inner_loop():
    without = replace(LONG, lbfgs_steps=0).encode(IMAGES)
    for mine, theirs in zip(without, FUNCTA.encode(IMAGES), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("length", [-1e-2, np.nan])
def test_a_search_that_goes_astray_is_not_followed(monkeypatch, length):
    """A solver that climbs, and one that ends in nan: the latents of the inner loop stay."""

    def astray():
        def update(gradient, state, latent, **_):
            return -length * gradient, state

        return optax.GradientTransformationExtraArgs(optax.lbfgs().init, update)

    solver = astray()
    monkeypatch.setattr(optax, "lbfgs", lambda: solver)
    image = IMAGES[0].reshape(-1, 1)
    model = siren.with_params(CONFIG, PARAMS)
    points = siren.points(CONFIG, (HEIGHT, WIDTH))
    start, psnr = FUNCTA.encode(IMAGES[:1])
    latent, error = lbfgs.fit_on(model, points, image, start[0], 3)
    np.testing.assert_array_equal(latent, start[0])
    assert -10 * np.log10(error) == pytest.approx(psnr[0], abs=1e-4)


def test_a_start_that_is_not_finite_stays():
    wild = {**PARAMS, "inner_rate": np.full(4, np.inf, np.float32)}
    latents, _ = replace(LONG, params=wild).encode(IMAGES[:1])
    assert not np.isfinite(latents).all()  # which an export refuses by name


@pytest.mark.parametrize("wrong", [-1, 1.5])
def test_numbers_of_steps_that_are_none_are_refused(wrong):
    said = fault(replace(FUNCTA, lbfgs_steps=wrong).encode, IMAGES)
    assert said == f"lbfgs_steps {wrong}: must be a whole number, at least 0"


def test_with_points_left_out_the_psnr_is_that_of_all_pixels():
    functa = replace(FUNCTA, lbfgs_steps=5, fit_points=7)
    latents, psnr = functa.encode(IMAGES)
    errors = ((functa.decode(latents) - IMAGES) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(psnr, -10 * np.log10(errors), atol=1e-3)


def test_files_and_tasks_keep_the_number(tmp_path):
    config = replace(CONFIG, latent_dim=2)
    digits = datasets.load("digits", images=20)
    params = {**functas.siren.init(config, 0), "inner_rate": np.full(2, 0.1, np.float32)}
    about = {"data": digits.name, "data_fingerprint": digits.fingerprint}
    functa = functas.Functa(config, params, (8, 8), metadata=about)
    replace(functa, lbfgs_steps=np.int64(2)).save(tmp_path / "other.npz")
    assert functas.load(tmp_path / "other.npz").lbfgs_steps == 2
    functa.save(tmp_path / "functa.npz")
    (tmp_path / "config.json").write_text('{"dataset": "digits", "images": 20}')
    exporter.export(replace(functa, lbfgs_steps=2), digits, tmp_path / "functaset.npz")
    assert load_functaset(tmp_path / "functaset.npz").metadata["lbfgs_steps"] == 2
    material = task.load(task.TaskConfig(tmp_path))
    latents, _ = material.functa.encode(digits.test.images)
    np.testing.assert_allclose(material.functaset.test.latents, latents, atol=1e-6)
