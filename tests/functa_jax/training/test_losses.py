"""Losses: likelihoods in closed form, weights of points, and the same points in other ways."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from functa_jax.modalities.modality import MODALITIES, cosines_of_latitude
from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from functa_jax.training import inner_loop, losses, outer_loop
from functa_jax.training.config import OuterConfig
from functa_jax.training.samples import point_weights

SQUARED = ModelConfig(1, width=8, depth=3, latent_dim=4, w0=5.0, inputs=3, modality="functions")
OCCUPANCY = replace(SQUARED, modality="voxels")
OUTER = OuterConfig(steps=1, batch_size=4, inner_steps=2)
RANDOM = np.random.default_rng(0)
COUNT, POINTS = 4, 10
COORDS = RANDOM.random((POINTS, 3)).astype(np.float32)
VALUES = RANDOM.random((COUNT, POINTS, 1)).astype(np.float32)
WEIGHTS = RANDOM.uniform(0.1, 1, (COUNT, POINTS)).astype(np.float32)
NO_POINTS = (None, None)


def judged(config, outputs, values, weights=None):
    """(loss, error) of outputs, in float64."""
    of_latent, judge = losses.judgement(config, lambda z: z, jnp.asarray(values), weights)
    return judge(of_latent(jnp.asarray(outputs)))


@given(seed=st.integers(0, 2**32 - 1), whole=st.booleans())
@settings(max_examples=20)
def test_bernoulli_is_the_likelihood_and_its_gradient_prediction_minus_value(seed, whole):
    random = np.random.default_rng(seed)
    outputs, values = random.normal(0.5, 0.3, (6, 2)), random.random((6, 2))
    values = np.rint(values) if whole else values
    weights = random.uniform(0.1, 2, 6)
    share = (weights / weights.sum())[:, None] / 2  # of each number in the mean
    p = expit(losses.GAIN * (outputs - 0.5))
    with jax.enable_x64(True):
        loss, error = judged(OCCUPANCY, outputs, values, weights)
        gradient = jax.grad(lambda x: judged(OCCUPANCY, x, values, weights)[0])(outputs)
    likelihood = values * np.log(p) + (1 - values) * np.log1p(-p)
    np.testing.assert_allclose(loss, -(share * likelihood).sum(), rtol=1e-6)
    np.testing.assert_allclose(error, (share * (p - values) ** 2).sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, losses.GAIN * share * (p - values), atol=1e-9)


@pytest.mark.parametrize("size", [50.0, -50.0, 1e4])
def test_bernoulli_is_finite_whatever_the_logit(size):
    loss, error = judged(OCCUPANCY, np.full((3, 1), size), np.ones((3, 1)))
    value = max(losses.GAIN * (0.5 - size), 0)
    np.testing.assert_allclose(loss, value, rtol=1e-6, atol=1e-12)
    assert np.isfinite(error)


@pytest.mark.parametrize("config", [SQUARED, OCCUPANCY], ids=["squared", "bernoulli"])
def test_weights_are_shares(config):
    outputs, values, weights = RANDOM.normal(size=(POINTS, 1)), VALUES[0], WEIGHTS[0]
    plain, ones = (judged(config, outputs, values, w) for w in (None, np.ones(POINTS)))
    np.testing.assert_allclose(ones, plain, rtol=1e-6)
    some, more = (judged(config, outputs, values, f * weights) for f in (1, 7))
    np.testing.assert_allclose(more, some, rtol=1e-6)
    twice = judged(config, *(np.concatenate([x, x[:3]]) for x in (outputs, values)))
    counted = judged(config, outputs, values, np.float32([2] * 3 + [1] * (POINTS - 3)))
    np.testing.assert_allclose(counted, twice, rtol=1e-6)
    nothing = judged(config, outputs, values, np.zeros(POINTS, np.float32))
    np.testing.assert_array_equal(nothing, 0)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_weighted_gauss_newton_step_is_weighted_least_squares(seed):
    random = np.random.default_rng(seed)
    matrix, target = random.normal(size=(20, 4)), random.normal(size=20)
    weights = random.uniform(0.1, 3, 20)
    with jax.enable_x64(True):
        found = compiled_newton(matrix, target, weights)
    left = matrix.T @ (weights[:, None] * matrix)
    np.testing.assert_allclose(
        found, np.linalg.solve(left, matrix.T @ (weights * target)), atol=1e-6
    )


@jax.jit
def compiled_newton(matrix, target, weights):
    config = replace(SQUARED, update="gauss_newton", cg_iterations=4, rate_start=1.0)
    params = siren.init(config, 0) | {"inner_rate": jnp.ones(4)}
    of_latent, judge = losses.judgement(
        config, lambda z: (matrix @ z)[:, None], target[:, None], weights
    )
    model = siren.with_params(config, params)
    return inner_loop.step(model, of_latent, jnp.zeros(4), 0, judge=judge)[0]


# ---- the outer gradient ----


@partial(jax.jit, static_argnums=(0, 4))
def compiled_gradient(config, coords, values, weights, at_once):
    params, keys = siren.init(config, 0), jax.random.split(jax.random.key(0), len(values))
    params["inner_rate"] = params["inner_rate"] * (20 if config.loss == "squared" else 2)
    return outer_loop.outer_gradient(
        config, OUTER, params, coords, values, NO_POINTS, keys, at_once, None, weights
    )


def gradient_of(config, coords, values, weights=None, at_once=2):
    return jax.device_get(compiled_gradient(config, coords, values, weights, at_once))


def assert_close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=tolerance), a, b)


OWN = np.broadcast_to(COORDS, (COUNT, POINTS, 3))


@pytest.mark.parametrize(
    "config",
    [pytest.param(SQUARED, marks=pytest.mark.slow), OCCUPANCY],
    ids=["squared", "bernoulli"],
)
def test_coordinates_of_each_that_are_the_same_are_shared_ones(config):
    shared = gradient_of(config, COORDS, VALUES)
    each = gradient_of(config, OWN, VALUES, np.ones_like(WEIGHTS))
    assert_close(each, shared)
    assert shared[1]["inner_rate"].any()


def test_an_order_of_points_changes_nothing():
    """Not even one of each function."""
    orders = np.argsort(np.random.default_rng(1).random((COUNT, POINTS)), axis=1)
    rows = np.arange(COUNT)[:, None]
    sorted_ = gradient_of(SQUARED, OWN, VALUES, WEIGHTS)
    mixed = gradient_of(SQUARED, OWN[rows, orders], VALUES[rows, orders], WEIGHTS[rows, orders])
    assert_close(mixed, sorted_)


def test_what_stands_in_the_padding_changes_not_a_bit():
    mask = np.arange(POINTS) < np.array([[10], [7], [3], [9]])
    values, coords = VALUES.copy(), OWN.copy()
    values[~mask], coords[~mask] = 17.0, -3.0
    weights = np.float32(mask)
    found = gradient_of(SQUARED, coords, values, weights)
    plain = gradient_of(SQUARED, OWN, VALUES, weights)
    jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_padding_is_as_if_it_were_not_there():
    """A batch of equal lengths, with and without three points more that do not count."""
    padded = np.pad(VALUES[:, :7], [(0, 0), (0, 3), (0, 0)])
    weights = np.float32(np.broadcast_to(np.arange(POINTS) < 7, (COUNT, POINTS)))
    short = gradient_of(SQUARED, COORDS[:7], VALUES[:, :7])
    assert_close(gradient_of(SQUARED, OWN, padded, weights), short)


def test_weights_of_all_are_weights_of_each():
    each = gradient_of(SQUARED, OWN, VALUES, np.broadcast_to(WEIGHTS[0], WEIGHTS.shape))
    assert_close(each, gradient_of(SQUARED, COORDS, VALUES, WEIGHTS[0]))


# ---- modalities ----


def test_on_a_sphere_points_weigh_as_the_cells_of_their_lattice():
    latitudes = np.pi / 2 - np.pi * (np.arange(8) + 0.5) / 8
    coords = np.stack([np.cos(latitudes), 0 * latitudes, np.sin(latitudes)], -1)
    areas = np.sin(latitudes + np.pi / 16) - np.sin(latitudes - np.pi / 16)
    weights = cosines_of_latitude(np.float32(coords))
    np.testing.assert_allclose(weights / weights.sum(), areas / areas.sum(), rtol=1e-5)
    mask = RANDOM.random((3, 8)) < 0.5
    np.testing.assert_array_equal(point_weights("sphere", coords, mask) > 0, mask)
    assert point_weights("voxels", COORDS) is None


def test_every_modality_has_a_loss_and_a_metric_that_is_best_for_the_truth():
    values = np.rint(VALUES)
    for name, modality in MODALITIES.items():
        assert replace(SQUARED, modality=name).loss in ("squared", "bernoulli")
        for weights in (None, WEIGHTS):
            right, wrong = (modality.measure(p, values, weights) for p in (values, 1 - values))
            assert right.shape == (COUNT,) and (right > wrong).all()
    with pytest.raises(ValueError, match="--modality smells: no such modality"):
        replace(SQUARED, modality="smells")
