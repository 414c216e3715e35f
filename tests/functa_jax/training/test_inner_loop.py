"""The inner loop: gradients, independence of images from each other, PSNR."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from functa_jax.images.signals import psnr
from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from functa_jax.model.siren import coordinate_grid
from functa_jax.training.inner_loop import encode, fit, image_loss

CONFIGS = {
    "shift": ModelConfig(channels=2, width=8, depth=4, latent_dim=5, w0=5.0),
    "scale_shift": ModelConfig(2, 8, 4, 5, w0=5.0, modulation="scale_shift"),
    "constant": ModelConfig(2, 8, 4, 5, w0=5.0, inner_rate=0.3),
}
SIDE = 4
encode_jitted = jax.jit(encode, static_argnums=(0, 4))


@partial(jax.jit, static_argnums=(0, 4))
def fit_jitted(config, params, coords, image, steps):
    return fit(siren.with_params(config, params), coords, image, steps)


def problem(config, images=7, dtype=np.float32):
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: np.asarray(x, dtype), siren.init(config, 0))
    coords = np.asarray(coordinate_grid(SIDE), dtype)
    return params, coords, rng.random((images, SIDE**2, config.channels)).astype(dtype)


@pytest.mark.parametrize(("name", "penalty"), [("shift", 0.0), ("scale_shift", 0.1)])
def test_gradient_against_finite_differences(name, penalty):
    config = CONFIGS[name]
    with jax.enable_x64(True):
        params, coords, images = problem(config, 1, np.float64)
        model = siren.with_params(config, params)
        latent = np.random.default_rng(1).normal(size=config.latent_dim)

        @jax.jit
        def loss(z):
            return image_loss(model, coords, jnp.asarray(z), images[0], penalty)[0]

        gradient = jax.grad(loss)(latent)
        for i in range(config.latent_dim):
            h = np.eye(config.latent_dim)[i] * 1e-5
            assert abs((loss(latent + h) - loss(latent - h)) / 2e-5 - gradient[i]) < 1e-8


def test_no_steps_return_the_start():
    config = CONFIGS["shift"]
    params, coords, images = problem(config)
    latent, errors = fit(siren.with_params(config, params), coords, images[0], 0)
    np.testing.assert_array_equal(latent, np.zeros(config.latent_dim))
    assert errors.shape == (0,)
    latents, errors = encode(config, params, coords, images, 0)
    np.testing.assert_array_equal(latents, np.zeros((7, 1, config.latent_dim)))
    blank = siren.with_params(config, params)(coords, jnp.zeros(config.latent_dim))
    np.testing.assert_allclose(errors[:, 0], ((blank - images) ** 2).mean((1, 2)), rtol=1e-6)


def test_steps_are_gradient_descent_written_out():
    config = CONFIGS["shift"]
    params, coords, images = problem(config)
    model = siren.with_params(config, params)
    rate = np.asarray(params["inner_rate"])
    latent, expected_errors = jnp.zeros(config.latent_dim), []

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss_and_gradient(latent):
        return image_loss(model, coords, latent, images[0])

    for _ in range(3):
        (_, error), gradient = loss_and_gradient(latent)
        expected_errors.append(float(error))
        latent = latent - rate * gradient
    got, errors = fit_jitted(config, params, coords, images[0], 3)
    np.testing.assert_allclose(got, latent, atol=1e-7)
    np.testing.assert_allclose(errors, expected_errors, rtol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_encode_is_fit_for_every_image(name):
    config = CONFIGS[name]
    params, coords, images = problem(config)
    latents, errors = encode_jitted(config, params, coords, images, 4)
    model = siren.with_params(config, params)
    np.testing.assert_array_equal(latents[:, 0], 0)
    for image, latent, course in zip(images, latents, errors, strict=True):
        alone, before = fit_jitted(config, params, coords, image, 4)
        np.testing.assert_allclose(latent[4], alone, atol=1e-6)
        np.testing.assert_allclose(course[:4], before, rtol=1e-5)
        last = image_loss(model, coords, alone, image)[1]
        np.testing.assert_allclose(course[4], last, rtol=1e-5)


@pytest.mark.slow
@given(st.sampled_from([1, 3, 7]), st.integers(0, 6))
def test_an_image_does_not_see_its_neighbours(batch, place):
    config = CONFIGS["shift"]
    params, coords, images = problem(config)
    place %= batch
    whole = encode_jitted(config, params, coords, images[:batch], 3)[0][:, -1]
    others = np.random.default_rng(batch).random(images[:batch].shape, np.float32)
    others[place] = images[place]
    np.testing.assert_allclose(
        encode_jitted(config, params, coords, others, 3)[0][place, -1], whole[place], atol=1e-6
    )
    alone = encode_jitted(config, params, coords, images[place : place + 1], 3)[0][0, -1]
    np.testing.assert_allclose(whole[place], alone, atol=1e-6)


def test_penalty_shrinks_latents():
    config = CONFIGS["constant"]
    params, coords, images = problem(config)
    free = encode_jitted(config, params, coords, images, 5)[0][:, -1]
    held = encode_jitted(config, params, coords, images, 5, penalty=0.2)[0][:, -1]
    assert np.linalg.norm(held) < np.linalg.norm(free)


def test_first_order_keeps_the_latent_and_changes_the_outer_gradient():
    config = CONFIGS["shift"]
    params, coords, images = problem(config)

    @partial(jax.jit, static_argnums=1)
    def outer(params, first_order):
        model = siren.with_params(config, params)
        latent, _ = fit(model, coords, images[0], 2, first_order=first_order)
        return image_loss(model, coords, latent, images[0])[1]

    np.testing.assert_allclose(outer(params, True), outer(params, False), rtol=1e-6)
    first, second = (
        jax.jit(jax.grad(outer), static_argnums=1)(params, order) for order in (True, False)
    )
    # Rates act only through the steps, whose gradients are constants in the first order.
    assert np.abs(first["inner_rate"]).max() > 0
    assert not np.allclose(
        first["siren"]["layers"][1]["kernel"], second["siren"]["layers"][1]["kernel"], rtol=1e-3
    )


def test_psnr_by_hand():
    # An error of 0.1 everywhere: mean square 0.01, 20 dB; 0.01 everywhere: 40 dB.
    np.testing.assert_allclose(psnr(jnp.array([0.01, 1e-4, 1.0])), [20, 40, 0], atol=1e-4)


@given(arrays(np.float32, 5, elements=st.floats(2**-10, 1, width=32, allow_subnormal=False)))
def test_mean_of_psnr_is_at_least_psnr_of_mean(errors):
    assert float(psnr(errors).mean()) >= float(psnr(errors.mean())) - 1e-4
