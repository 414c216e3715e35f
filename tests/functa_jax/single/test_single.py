"""Many networks at once against one at a time, optax on the tree, and closed-form derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax.evaluation.reconstruction import mean_psnr
from functa_jax.model.siren import Siren, coordinate_grid
from functa_jax.single import fit_figures, sirens
from functa_jax.single.sirens import Shape
from groundfloor.errors import UserError

SHAPE = Shape(width=6, depth=3, channels=2, w0=8.0)
IMAGES = np.random.default_rng(0).random((4, 4, 6, 2), np.float32)
SEEDS, RATES = np.array([3, 1, 3, 0]), np.array([1e-2, 1e-2, 3e-3, 1e-3], np.float32)
SETTINGS = {"steps": 12, "records": (2, 5)}


@pytest.fixture(scope="module")
def fitted():
    return sirens.fit(SHAPE, IMAGES, SEEDS, rates=RATES, **SETTINGS)


def layers(weights, shape=SHAPE):
    """[(kernel, bias), ...] of one network, float64."""
    model = sirens.network(shape, jnp.asarray(weights))
    return [
        (np.asarray(x.kernel[...], np.float64), np.asarray(x.bias[...], np.float64))
        for x in model.layers
    ]


@settings(max_examples=10)
@given(st.integers(1, 9), st.integers(2, 6), st.integers(1, 4))
def test_parameters_are_counted(width, depth, channels):
    tree = nnx.eval_shape(lambda: nnx.state(Siren(width, depth, channels, 9.0, rngs=nnx.Rngs(0))))
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    assert Shape(width, depth, channels).parameters == count


def test_flops_are_those_of_the_products():
    assert Shape(7, 2, 3).forward_flops(10) == 2 * 10 * (2 * 7 + 7 * 3)
    assert Shape(7, 4, 3).forward_flops(10) == 2 * 10 * (2 * 7 + 2 * 49 + 7 * 3)


def test_a_scaled_start_has_larger_weights_in_all_layers_but_the_last():
    scaled = dataclasses.replace(SHAPE, start_scale=2.5)
    one, other = (layers(sirens.init(shape, [3])[0]) for shape in (SHAPE, scaled))
    for number, ((kernel, _), (larger, bias)) in enumerate(zip(one, other, strict=True)):
        factor = 1.0 if number == len(one) - 1 else 2.5
        np.testing.assert_allclose(larger, factor * kernel, rtol=1e-6)
        assert not np.any(bias)


def test_a_seed_is_a_siren():
    model = Siren(6, 3, 2, 8.0, rngs=nnx.Rngs(jax.random.key(3)))
    coords = coordinate_grid(4, 6)
    weights = sirens.init(SHAPE, [3, 1, 3])
    np.testing.assert_array_equal(weights[0], weights[2])
    assert (weights[0] != weights[1]).any()
    np.testing.assert_allclose(sirens.network(SHAPE, weights[0])(coords), model(coords), atol=1e-6)


@pytest.mark.parametrize("place", range(4))
def test_many_at_once_are_one_by_one(fitted, place):
    alone = sirens.fit(SHAPE, IMAGES[[place]], SEEDS[place], rates=RATES[place], **SETTINGS)
    np.testing.assert_allclose(alone.weights[0], fitted.weights[place], atol=1e-5)
    np.testing.assert_allclose(alone.errors[:, 0], fitted.errors[:, place], rtol=1e-4)


def test_a_fit_is_adam_on_the_tree(fitted):
    rate, steps, coords = float(RATES[0]), SETTINGS["steps"], coordinate_grid(4, 6)
    graph, params = nnx.split(Siren(6, 3, 2, 8.0, rngs=nnx.Rngs(jax.random.key(3))))
    adam = optax.adam(optax.cosine_decay_schedule(rate, steps))
    moments = adam.init(params)
    target = IMAGES[0].reshape(-1, 2)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return jnp.mean((nnx.merge(graph, params)(coords) - target) ** 2)

    errors = []
    for _ in range(steps):
        error, gradient = loss(params)
        errors.append(float(error))
        updates, moments = adam.update(gradient, moments)
        params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(fitted.steps, [0, 2, 5, 12])
    np.testing.assert_allclose(fitted.errors[:3, 0], [errors[k] for k in (0, 2, 5)], rtol=1e-4)
    np.testing.assert_allclose(fitted.errors[3, 0], float(loss(params)[0]), rtol=1e-4)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    np.testing.assert_allclose(fitted.weights[0], flat, atol=1e-5)


def test_records_change_nothing(fitted):
    heard = []
    plain = sirens.fit(
        SHAPE, IMAGES, SEEDS, rates=RATES, steps=12, advanced=lambda *said: heard.append(said)
    )
    np.testing.assert_array_equal(plain.weights, fitted.weights)
    np.testing.assert_array_equal(plain.errors, fitted.errors[[0, -1]])
    assert [steps for steps, _ in heard] == [12]


def test_errors_are_those_of_the_pictures(fitted):
    shown = sirens.pictures(SHAPE, fitted.weights, 4, 6)
    np.testing.assert_allclose(
        fitted.errors[-1], ((shown - IMAGES) ** 2).mean(axis=(1, 2, 3)), rtol=1e-4
    )
    assert (fitted.errors[-1] < fitted.errors[0]).all()


def test_more_points_than_pixels_are_all_pixels(fitted):
    all_ = sirens.fit(SHAPE, IMAGES, SEEDS, rates=RATES, points=24, **SETTINGS)
    np.testing.assert_array_equal(all_.weights, fitted.weights)


def test_drawn_pixels_follow_from_the_seed():
    images = IMAGES[[0, 0, 0, 0]]
    fit = sirens.fit(SHAPE, images, [3, 3, 3, 4], rates=1e-2, steps=5, points=3)
    np.testing.assert_allclose(fit.weights[0], fit.weights[1], atol=1e-6)
    assert (fit.weights[0] != fit.weights[3]).any()
    other = sirens.fit(SHAPE, images, [3, 3, 3, 4], rates=1e-2, steps=5)
    assert (fit.weights[0] != other.weights[0]).any()


def test_an_error_that_is_not_finite_stops():
    with pytest.raises(UserError, match="not finite by step 3"):
        sirens.fit(SHAPE, IMAGES, SEEDS, rates=np.inf, steps=3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 16.0, -16.0])
def test_images_that_are_no_signals_are_refused(wrong):
    images = IMAGES.copy()
    images[1, 0, 0, 0] = wrong
    with pytest.raises(UserError, match="give uint8, or floats in"):
        sirens.fit(SHAPE, images, SEEDS, rates=1e-2, steps=3)


def test_bytes_are_fitted_as_their_floats():
    images = np.uint8(np.rint(255 * np.clip(IMAGES, 0, 1)))
    fits = [sirens.fit(SHAPE, x, SEEDS, rates=1e-2, steps=3) for x in (images, images / 255)]
    np.testing.assert_allclose(fits[0].weights, fits[1].weights, atol=1e-5)


def test_marks_end_with_the_last_step():
    assert sirens.marks(1) == [1]
    marks = sirens.marks(1000)
    assert marks[0] == 1 and marks[-1] == 1000 and marks == sorted(set(marks))


def test_a_network_without_a_last_layer_shows_grey_exactly():
    weights = sirens.init(SHAPE, [0])[0]
    places = [
        np.ravel(leaf).size
        for leaf in jax.tree.leaves(nnx.state(Siren(6, 3, 2, 8.0, rngs=nnx.Rngs(0))))
    ]
    weights[-(places[-1] + places[-2]) :] = 0  # the last bias and kernel
    kernel, bias = layers(weights)[-1]
    assert not kernel.any() and not bias.any()
    shown = sirens.pictures(SHAPE, weights[None], 4, 6)
    np.testing.assert_array_equal(shown, np.full((1, 4, 6, 2), 0.5, np.float32))
    assert mean_psnr([((shown - 0.5) ** 2).mean()]) == pytest.approx(120)


def test_a_box_is_a_part_of_the_picture(fitted):
    whole = sirens.pictures(SHAPE, fitted.weights, 8, 12)
    part = sirens.pictures(SHAPE, fitted.weights, 4, 3, box=(0.25, 0.5, 0.75, 0.75))
    np.testing.assert_allclose(part, whole[:, 2:6, 6:9], atol=1e-5)


def test_derivatives_of_two_layers_in_closed_form():
    shape = Shape(width=5, depth=2, channels=3, w0=7.0)
    weights = sirens.init(shape, [1])[0]
    weights += 0.1 * np.random.default_rng(1).normal(size=weights.shape).astype(np.float32)
    coords = np.random.default_rng(2).random((11, 2), np.float32)
    (kernel, bias), (last, _) = layers(weights, shape)
    phase = shape.w0 * (coords @ kernel + bias)
    first = shape.w0 * np.einsum("nw,dw,wc->ncd", np.cos(phase), kernel, last)
    second = -(shape.w0**2) * np.einsum("nw,dw,ew,wc->ncde", np.sin(phase), kernel, kernel, last)
    gradient, hessian = sirens.derivatives(shape, jnp.asarray(weights), coords)
    np.testing.assert_allclose(gradient, first, atol=1e-4)
    np.testing.assert_allclose(hessian, second, atol=1e-3)


def test_derivatives_of_three_layers_are_limits_of_differences():
    shape = Shape(width=6, depth=3, channels=1, w0=4.0)
    height, width = 60, 90
    weights = sirens.init(shape, [2])
    grey = sirens.pictures(shape, weights, height, width)[0].mean(axis=-1, dtype=np.float64)
    steep, curved = fit_figures.field_derivatives(shape, weights[0], height, width)
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(
        steep[inner], np.hypot(*np.gradient(grey))[inner], rtol=0.02, atol=1e-5
    )
    twice = sum(np.gradient(np.gradient(grey, axis=k), axis=k) for k in (0, 1))
    np.testing.assert_allclose(curved[inner], twice[inner], atol=0.05 * np.abs(curved).max())
