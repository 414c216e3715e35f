"""Training of classifiers: what a batch goes through, AdamW and its rate, what is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from functa_jax.tasks.classification import networks, training
from functa_jax.tasks.classification.training import Recipe

KEY = jax.random.key(0)


# ---- what a batch goes through ----


def test_shares_are_the_quantiles_of_a_beta_distribution():
    middles = (np.arange(1024) + 0.5) / 1024
    np.testing.assert_array_equal(training.mixing_shares(0), 1)
    np.testing.assert_allclose(training.mixing_shares(1), middles, atol=1e-6)
    arcsine = np.sin(np.pi * middles / 2) ** 2
    np.testing.assert_allclose(training.mixing_shares(0.5), arcsine, atol=1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.2, 1.0])
def test_mixup_mixes_examples_and_labels_alike(strength):
    y = jnp.eye(8)
    shares = training.mixing_shares(strength)
    x, labels = jax.jit(training.mixed)(KEY, y.reshape(8, 2, 4), y, shares)
    np.testing.assert_array_equal(x.reshape(8, 8), labels)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    assert ((np.asarray(labels) > 0).sum(1) <= 2).all()
    if strength == 0:
        np.testing.assert_array_equal(labels, y)
    else:
        assert not np.array_equal(labels, y)


def test_cells_are_dropped_whole_and_as_often_as_asked():
    x = jnp.ones((400, 4, 4, 3))
    kept = np.asarray(training.without_cells(KEY, x, 0.1))
    assert (kept.min(-1) == kept.max(-1)).all()
    assert abs(kept.mean() - 0.9) < 5 * np.sqrt(0.09 / 6400)
    np.testing.assert_array_equal(training.without_cells(KEY, x[:, 0, 0], 0.5), 1)


def test_noise_has_the_standard_deviation_asked_for():
    recipe = Recipe(1, noise=0.3)
    x, _ = jax.jit(training.augmented)(KEY, jnp.zeros((4000, 4)), jnp.zeros((4000, 1)), recipe)
    assert abs(np.std(x) - 0.3) < 5 * 0.3 / np.sqrt(2 * 16000)


# ---- training ----


def blobs(classes=3, size=40):
    """Gaussian clouds around far corners: rows (n, 4), labels (n,)."""
    y = np.arange(size * classes) % classes
    return np.float32(
        4 * np.eye(classes, 4)[y] + np.random.default_rng(0).normal(size=(len(y), 4))
    ), y


def small(rngs):
    return networks.MLP(4, 3, width=8, depth=1, dropout=0.0, rngs=rngs)


NETWORK = training.fresh(small)


def trained(recipe, **options):
    return training.train(NETWORK, recipe, *blobs(), classes=3, batch=16, **options)


@pytest.mark.slow
def test_what_can_be_separated_is_learned():
    seen = []
    model = trained(Recipe(120, rate=1e-2, ema=0.9), advanced=lambda *said: seen.append(said))
    x, y = blobs()
    assert np.mean(model.outputs(x).argmax(1) == y) > 0.97
    assert [count for count, _ in seen] == [50, 50, 20]
    assert seen[-1][1] < seen[0][1]


def test_training_does_not_depend_on_where_it_pauses():
    recipe = Recipe(9, rate=1e-2, noise=0.1, shares=training.mixing_shares(0.5))
    once, often, other = trained(recipe), trained(recipe, each=4), trained(recipe, seed=1)
    jax.tree.map(np.testing.assert_array_equal, once.weights, often.weights)
    x, _ = blobs()
    assert not np.allclose(once.outputs(x), other.outputs(x))


@pytest.mark.slow
def test_one_step_is_adamw_on_smoothed_labels():
    # A single example, so that every batch is the same; the first step of Adam is the gradient's
    # sign, and the average of weights is nine parts of ten the new ones, as it begins.
    x, y, rate, decay = np.ones((1, 4), np.float32), np.zeros(1, int), 1e-2, 0.5
    graph, weights = NETWORK

    def loss(weights):
        chances = jax.nn.log_softmax(nnx.merge(graph, weights)(jnp.array(x)))
        return -(chances @ jnp.array([0.8, 0.1, 0.1]))[0]

    gradient = jax.grad(loss)(weights)
    recipe = Recipe(1, rate, decay, smoothing=0.3, ema=0.999)
    found = training.train(NETWORK, recipe, x, y, classes=3, batch=4).weights

    def check(old, slope, new):
        step = rate * (slope / (np.abs(slope) + 1e-8) + decay * old)
        np.testing.assert_allclose(new, old - 0.9 * step, rtol=1e-4, atol=1e-6)

    jax.tree.map(check, *map(jax.device_get, (weights, gradient, found)))


def test_rate_rises_then_falls_to_zero():
    recipe = Recipe(100, rate=1.0, decay=0.0)
    optimizer, weights = training._optimizer(recipe), jnp.zeros(1)
    state, steps = optimizer.init(weights), []
    for _ in range(100):  # a constant gradient: Adam's own step has length one
        update, state = optimizer.update(jnp.ones(1), state, weights)
        steps.append(-float(update[0]))
    np.testing.assert_allclose(steps[0], 0.2, atol=1e-3)
    assert np.argmax(steps) == 4 and np.all(np.diff(steps[4:]) < 0) and steps[-1] < 1e-3
    np.testing.assert_allclose(steps[50], 0.5, atol=1e-3)


def test_refreshed_examples_are_what_is_learned():
    x, y = blobs()
    wrong = np.roll(x, 1, axis=0)  # every example with another class's label, until refreshed
    network = NETWORK

    def refresh(number):
        half = len(x) // 2
        start = half * (number % 2)
        return start, x[start : start + half]

    recipe = Recipe(120, rate=1e-2, ema=0.9)
    model = training.train(network, recipe, wrong, y, classes=3, batch=16, refresh=refresh, each=10)
    assert np.mean(model.outputs(x).argmax(1) == y) > 0.97
