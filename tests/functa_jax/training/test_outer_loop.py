"""The outer loop: second-order gradients, equal pieces, cost, and the same on any devices."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from functa_jax.model.siren import coordinate_grid
from functa_jax.training import devices, outer_loop
from functa_jax.training.config import OuterConfig
from functa_jax.training.loop import forward_flops

MODEL = ModelConfig(channels=1, width=8, depth=4, latent_dim=5, w0=5.0)
OUTER = OuterConfig(steps=10, batch_size=8, outer_rate=1e-2, schedule="constant", warmup=0)
BOUNDED = replace(OUTER, clip_norm=0.01, rate_range=(0.01, 0.02), ema=0.5)
EVERYTHING = replace(OUTER, noise=0.05, penalty=0.01, inner_points=9, outer_points=7, warmup=2)
JOINT = replace(OUTER, class_loss=True)
NO_POINTS = (None, None)


def batch(count=8, side=4, dtype=np.float32):
    rng = np.random.default_rng(0)
    coords = np.asarray(coordinate_grid(side), dtype)
    keys = jax.random.split(jax.random.key(0), count)
    return coords, rng.random((count, side**2, 1)).astype(dtype), keys


@pytest.mark.parametrize("modulation", ["shift", "scale_shift"])
def test_second_order_gradient_against_finite_differences(modulation):
    model = replace(MODEL, modulation=modulation)
    with jax.enable_x64(True):
        coords, images, keys = batch(2, 3, np.float64)
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), siren.init(model, 0))
        # Larger rates, so that second derivatives weigh.
        params["inner_rate"] = params["inner_rate"] * 20
        flat, rebuild = jax.flatten_util.ravel_pytree(params)

        @jax.jit
        def loss(vector):
            return outer_loop.mean_loss(
                model, OUTER, rebuild(vector), coords, images, NO_POINTS, keys
            )[0]

        gradient = jax.grad(loss)(flat)
        rng = np.random.default_rng(1)
        for _ in range(10):
            direction = rng.normal(size=flat.shape)
            h = 1e-6 * direction
            slope = (loss(flat + h) - loss(flat - h)) / 2e-6
            np.testing.assert_allclose(slope, gradient @ direction, rtol=1e-5, atol=1e-9)


def test_without_training_steps_the_outer_loss_is_that_of_the_start():
    coords, images, keys = batch()
    params = siren.init(MODEL, 0)
    outer = replace(OUTER, training_steps=0)

    @jax.jit
    def loss(params):
        return outer_loop.mean_loss(MODEL, outer, params, coords, images, NO_POINTS, keys)[0]

    blank = siren.with_params(MODEL, params)(coords, jnp.zeros(5))
    np.testing.assert_allclose(loss(params), np.mean((blank - images) ** 2), rtol=1e-6)


@partial(jax.jit, static_argnums=4)
def outer_gradient(params, coords, images, keys, at_once):
    return outer_loop.outer_gradient(MODEL, OUTER, params, coords, images, NO_POINTS, keys, at_once)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_pieces_of_a_batch_sum_to_the_whole(at_once):
    coords, images, keys = batch()
    params = siren.init(MODEL, 0)
    whole, pieces = (
        outer_gradient(params, coords, images, keys, count) for count in (None, at_once)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), pieces, whole)


@pytest.mark.slow
def test_outer_gradient_costs_at_most_nineteen_and_a_half_forward_passes():
    """K=3: 1 shared + 3 x 2 - 1 passes forward and back in the latent, times 3; XLA's count."""
    model = ModelConfig(channels=1, width=128, depth=8, latent_dim=64)
    outer = OuterConfig(steps=1, batch_size=16, outer_rate=1e-3, warmup=0)
    coords, images, keys = batch(16, 16)

    def gradient(params, coords, images, keys):
        return outer_loop.outer_gradient(model, outer, params, coords, images, NO_POINTS, keys)

    compiled = jax.jit(gradient).lower(siren.init(model, 0), coords, images, keys).compile()
    passes = compiled.cost_analysis()["flops"] / (16 * forward_flops(model, 256))
    assert 15 < passes <= 19.5


@cache
def compiled_train(outer, count):
    mesh = Mesh(np.array(jax.devices()[:count]), (devices.AXIS,))
    return mesh, outer_loop.make_train(MODEL, outer, mesh)


def trained(outer, count, steps=5):
    """State and metrics after some steps on `count` of the four devices, a dispatch for each."""
    mesh, train = compiled_train(outer, count)
    coords, _, _ = batch()
    images = np.random.default_rng(1).integers(0, 256, (20, 16, 1)).astype(np.uint8)
    rows = np.random.default_rng(2).integers(0, 20, (steps, outer.batch_size)).astype(np.int32)
    state = devices.put(jax.device_get(outer_loop.init_state(MODEL, outer, 3)), mesh)
    by_image, by_position = PartitionSpec(None, devices.AXIS), PartitionSpec(devices.AXIS)
    positions = np.arange(outer.batch_size, dtype=np.int32)
    labels = devices.put(np.arange(20, dtype=np.int32) % 3, mesh) if outer.class_loss else None
    fixed = devices.put(coords, mesh), devices.put(images, mesh), labels
    positions = devices.put(positions, mesh, by_position)
    course = []
    for step in range(steps):
        row = devices.put(rows[step : step + 1], mesh, by_image)
        state, metrics = train(state, *fixed, row, positions)
        course.append(devices.fetch(metrics))
    return devices.fetch(state), jax.tree.map(lambda *parts: np.concatenate(parts), *course)


@pytest.mark.slow
@pytest.mark.parametrize(
    "outer", [OUTER, EVERYTHING, JOINT], ids=["plain", "everything", "class loss"]
)
@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_devices_gives_the_same_parameters(outer, count):
    (one, one_metrics), (many, many_metrics) = trained(outer, 1), trained(outer, count)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), many["params"], one["params"]
    )
    np.testing.assert_allclose(many_metrics["psnr"], one_metrics["psnr"], atol=1e-3)


@pytest.mark.slow
def test_the_same_twice_bit_for_bit():
    first, second = trained(EVERYTHING, 4)[0], trained(EVERYTHING, 4)[0]
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.slow
def test_all_is_single_precision_in_64_bit_mode_too():
    outer = replace(EVERYTHING, optimizer="muon", schedule="cosine")  # Muon, and Adam for the rest
    plain, _ = trained(outer, 1, steps=2)
    compiled_train.cache_clear()
    with jax.enable_x64(True):
        wide, _ = trained(outer, 1, steps=2)
    compiled_train.cache_clear()
    assert {x.dtype.name for x in jax.tree.leaves(wide)} == {"float32", "int32"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), plain, wide)


def test_one_step_is_clipped_adam_by_hand():
    coords, _, _ = batch()
    images = np.random.default_rng(1).integers(0, 256, (20, 16, 1)).astype(np.uint8)
    rows = np.random.default_rng(2).integers(0, 20, (1, 8))
    params = siren.init(MODEL, 0)
    (loss, _), gradient = outer_gradient(
        params, coords, images[rows[0]] / np.float32(255), batch()[2], None
    )
    state, metrics = trained(BOUNDED, 1, steps=1)
    np.testing.assert_allclose(metrics["loss"][0], loss, rtol=1e-5)
    norm = float(optax.tree.norm(gradient))
    np.testing.assert_allclose(metrics["gradient_norm"][0], norm, rtol=1e-4)
    # Adam's first step is rate * g / (|g| + eps), whatever the betas.
    clipped = jax.tree.map(lambda g: g * min(1, 0.01 / norm), gradient)
    expected = jax.tree.map(lambda p, g: p - 1e-2 * g / (jnp.abs(g) + 1e-8), params, clipped)
    expected["inner_rate"] = jnp.clip(expected["inner_rate"], 0.01, 0.02)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), state["params"], expected
    )


def test_rates_stay_in_their_range_and_averages_follow():
    states = [trained(BOUNDED, 1, steps=steps)[0] for steps in (1, 2)]
    for state in states:
        assert state["params"]["inner_rate"].min() >= np.float32(0.01)
        assert state["params"]["inner_rate"].max() <= np.float32(0.02)
    # ema_2 = d ema_1 + (1 - d) params_2 with d = min(0.5, 2 / 11) in the second step.
    decay = 2 / 11
    jax.tree.map(
        lambda new, old, params: np.testing.assert_allclose(
            new, decay * old + (1 - decay) * params, atol=1e-6
        ),
        states[1]["ema"],
        states[0]["ema"],
        states[1]["params"],
    )


@pytest.mark.slow
def test_training_lowers_the_loss():
    _, metrics = trained(OUTER, 4, steps=100)
    assert metrics["loss"][-10:].mean() < 0.8 * metrics["loss"][:10].mean()


@pytest.mark.parametrize(
    "schedule, warmup, expected",
    [("constant", 0, [1, 1, 1]), ("constant", 4, [0, 0.5, 1]), ("cosine", 0, [1, None, 0])],
)
def test_schedules(schedule, warmup, expected):
    outer = replace(OUTER, schedule=schedule, warmup=warmup, steps=10, clip_norm=None)
    transform = outer_loop.optimizer(outer)
    params = {"x": jnp.ones(1)}
    state, sizes = transform.init(params), []
    for _ in range(11):
        updates, state = transform.update({"x": jnp.ones(1)}, state, params)
        sizes.append(-float(updates["x"][0]) / outer.outer_rate)
    for step, value in zip((0, 2, 10), expected, strict=True):
        if value is not None:
            np.testing.assert_allclose(sizes[step], value, atol=1e-4)
