"""Networks that classify: layers against slow references, what they must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from functa_jax.tasks.classification import networks

KEY = jax.random.key(0)
GRID = (2, 2, 3)


def examples(*shape):
    return jax.random.normal(KEY, shape)


def test_mlp_is_linear_maps_with_silu_between():
    model = networks.MLP(12, 5, width=7, depth=2, rngs=nnx.Rngs(0))
    x = np.asarray(examples(4, *GRID)).reshape(4, -1)
    for layer in model.hidden:
        x = x @ np.asarray(layer.kernel) + np.asarray(layer.bias)
        x = x / (1 + np.exp(-x))
    expected = x @ np.asarray(model.head.kernel) + np.asarray(model.head.bias)
    np.testing.assert_allclose(model(examples(4, *GRID)), expected, atol=1e-5)


@pytest.fixture(scope="module")
def transformer():
    return networks.Transformer(GRID, 5, width=8, blocks=3, heads=2, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_transformer_is_its_blocks_one_after_the_other(transformer):
    x = examples(4, *GRID)
    tokens = transformer.embed(x.reshape(4, 4, 3))
    tokens = jnp.concatenate([jnp.tile(transformer.gather[...], (4, 1, 1)), tokens], 1)
    tokens = tokens + transformer.positions[...]
    graph, weights = nnx.split(transformer.blocks)
    for number in range(3):
        tokens = nnx.merge(graph, jax.tree.map(lambda w, i=number: w[i], weights))(tokens)
    expected = transformer.head(transformer.norm(tokens[:, 0]))
    np.testing.assert_allclose(transformer(x), expected, atol=1e-5)
    first, second = (jax.tree.leaves(jax.tree.map(lambda w, i=i: w[i], weights)) for i in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_transformer_knows_cells_by_their_positions_alone(transformer):
    x, order = examples(4, *GRID), np.array([2, 0, 3, 1])
    shuffled = x.reshape(4, 4, 3)[:, order].reshape(4, *GRID)
    assert np.abs(transformer(shuffled) - transformer(x)).max() > 1e-3
    graph, weights = nnx.split(transformer)
    moved = nnx.merge(graph, jax.tree.map(jnp.copy, weights))
    places = transformer.positions[...]
    moved.positions[...] = places.at[1:].set(places[1:][order])
    np.testing.assert_allclose(moved(shuffled), transformer(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 2, 8), (9, 13, 3)])
def test_convnet_takes_any_size(shape):
    model = networks.ConvNet(shape, 5, channels=4, rngs=nnx.Rngs(0))
    logits = model(examples(3, *shape))
    assert logits.shape == (3, 5)
    np.testing.assert_allclose(logits[1:2], model(examples(3, *shape)[1:2]), atol=1e-5)


def test_patches_and_halves_are_those_of_flax():
    x, weights = examples(2, 5, 7, 3), jax.random.normal(KEY, (3, 3, 3, 4))
    convolution = nnx.Conv(3, 4, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    convolution.kernel[...] = weights
    found = networks.patches(x) @ weights.reshape(27, 4)
    np.testing.assert_allclose(found, convolution(x), atol=1e-4)
    np.testing.assert_array_equal(networks.halved(x), nnx.max_pool(x, (2, 2), (2, 2)))


@pytest.mark.slow
def test_dropout_only_when_training(transformer):
    convnet = networks.ConvNet((4, 4, 3), 5, channels=4, rngs=nnx.Rngs(0))
    mlp = networks.MLP(12, 5, width=16, rngs=nnx.Rngs(0))
    for model, x in (
        (mlp, examples(4, 12)),
        (transformer, examples(4, *GRID)),
        (convnet, examples(4, 4, 4, 3)),
    ):
        np.testing.assert_array_equal(model(x), model(x))
        assert not np.array_equal(model(x, KEY), model(x))
