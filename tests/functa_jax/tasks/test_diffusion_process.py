"""Diffusion against closed forms: mixing, steps, walks down and up, guidance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.tasks.prior.diffusion_process import (
    HALF_TURN,
    SMALLEST,
    angles,
    guided,
    mix,
    step_down,
    unmix,
    walk_down,
    walk_up,
)

RANDOM = np.random.default_rng(0)
ANGLE = st.floats(SMALLEST, HALF_TURN)


@given(ANGLE)
def test_mixing_is_a_rotation(phi):
    x, noise = RANDOM.standard_normal((2, 5, 3)).astype(np.float32)
    z, v = mix(x, noise, phi)
    np.testing.assert_allclose(z**2 + v**2, x**2 + noise**2, rtol=1e-5)  # so variances add to one
    np.testing.assert_allclose(z, np.cos(phi) * x + np.sin(phi) * noise, atol=1e-6)
    for found, expected in zip(unmix(z, v, phi), (x, noise), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_angles_are_the_cosine_schedule():
    """Nichol & Dhariwal (2021), equation 17, up to their division by f(0)."""
    t = np.linspace(1, 0, 21)
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(np.cos(angles(20)) ** 2, f, atol=1e-6)


@given(ANGLE, ANGLE)
def test_ancestral_step_is_the_posterior_of_ho_et_al(one, other):
    """Mean and variance of q(z_s | z_t, x): Ho et al. (2020), equations 6 and 7."""
    lower, phi = sorted((one, other))
    if phi - lower < 1e-2:
        return
    x, noise, fresh = RANDOM.standard_normal((3, 7))
    bar_s, bar_t = np.cos(lower) ** 2, np.cos(phi) ** 2
    alpha = bar_t / bar_s
    z, v = mix(x, noise, phi)
    mean = np.sqrt(bar_s) * (1 - alpha) / (1 - bar_t) * x
    mean += np.sqrt(alpha) * (1 - bar_s) / (1 - bar_t) * z
    std = np.sqrt((1 - bar_s) / (1 - bar_t) * (1 - alpha))
    found = step_down(z, v, phi, lower, 1.0, fresh)
    np.testing.assert_allclose(found, mean + std * fresh, atol=1e-4)


@given(ANGLE, ANGLE)
def test_ddim_step_with_the_true_noise_is_exact_mixing(one, other):
    lower, phi = sorted((one, other))
    x, noise = RANDOM.standard_normal((2, 7))
    found = step_down(*mix(x, noise, phi), phi, lower, 0.0, np.nan_to_num(0.0))
    np.testing.assert_allclose(found, mix(x, noise, lower)[0], atol=1e-5)


MEAN = np.array([0.5, -1.0, 2.0], np.float32)
ROOT = np.array([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.2, 0.3, 0.2]], np.float32)
COVARIANCE = ROOT @ ROOT.T
VARIANCES, AXES = np.linalg.eigh(COVARIANCE)


def exact_velocity(z, phi):
    """E[v | z] for latents N(MEAN, COVARIANCE)."""
    cosine, sine = jnp.cos(phi), jnp.sin(phi)
    gain = cosine * VARIANCES / (cosine**2 * VARIANCES + sine**2)
    x = MEAN + ((z - cosine * MEAN) @ AXES * gain) @ AXES.T
    return (cosine * z - x) / sine


def test_ddim_solves_the_flow_of_gaussian_data():
    """dz/dphi = v carries noise n to MEAN + (C + tan^2)^(1/2) n, one linear map."""
    noise = RANDOM.standard_normal((50, 3)).astype(np.float32)
    found = jax.jit(lambda z: walk_down(exact_velocity, z, 1000))(noise)
    root = scipy.linalg.sqrtm(COVARIANCE + np.tan(SMALLEST) ** 2 * np.eye(3)).real
    np.testing.assert_allclose(found, MEAN + noise @ root, atol=0.01)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samplers_return_mean_and_covariance(eta):
    noise = RANDOM.standard_normal((10_000, 3)).astype(np.float32)
    key = jax.random.key(1)
    made = jax.jit(lambda z: walk_down(exact_velocity, z, 200, eta, key))(noise)
    np.testing.assert_allclose(np.mean(made, axis=0), MEAN, atol=0.04)
    np.testing.assert_allclose(np.cov(made, rowvar=False), COVARIANCE, atol=0.06)


def test_walking_up_inverts_walking_down():
    noise = RANDOM.standard_normal((50, 3)).astype(np.float32)
    latents = jax.jit(lambda z: walk_down(exact_velocity, z, 20))(noise)
    found = jax.jit(lambda x: walk_up(exact_velocity, x, 20))(latents)
    np.testing.assert_allclose(found, noise, atol=5e-3)
    again = jax.jit(lambda z: walk_down(exact_velocity, z, 20))(found)
    np.testing.assert_allclose(again, latents, atol=1e-3)


def test_guidance_algebra():
    with_class, without = RANDOM.standard_normal((2, 4, 3))
    np.testing.assert_array_equal(guided(with_class, without, 0.0), with_class)
    np.testing.assert_allclose(guided(with_class, without, -1.0), without, atol=1e-12)
    np.testing.assert_allclose(guided(with_class, without, 2.5), 3.5 * with_class - 2.5 * without)
    # The same rule for noise and for v, since both are linear in each other at given z.
    z, phi = RANDOM.standard_normal((4, 3)), 0.7
    noise = unmix(z, guided(with_class, without, 2.5), phi)[1]
    parts = [unmix(z, v, phi)[1] for v in (with_class, without)]
    np.testing.assert_allclose(noise, guided(*parts, 2.5), atol=1e-6)
