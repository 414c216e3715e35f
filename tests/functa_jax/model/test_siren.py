"""SIREN and modulated SIREN against their definitions, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from functa_jax.model.siren import coordinate_grid

SHIFT = ModelConfig(channels=3, width=16, depth=5, latent_dim=6, w0=10.0)
SCALE_SHIFT = ModelConfig(3, 16, 5, 6, w0=10.0, modulation="scale_shift")


def random_params(config, seed):
    """Parameters in which nothing is zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(x + 0.1 * rng.normal(size=x.shape), jnp.float32),
        siren.init(config, seed),
    )


def numpy_forward(config, params, coords, latent):
    """The published definition, layer by layer, in float64."""
    to64 = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    layers = [to64["siren"]["layers"][i] for i in range(config.depth)]
    modulations = latent @ to64["latent_map"]["kernel"] + to64["latent_map"]["bias"]
    h = np.asarray(coords, np.float64)
    blocks = np.split(modulations, config.depth - 1)
    for layer, block in zip(layers[:-1], blocks, strict=True):
        pre = h @ layer["kernel"] + layer["bias"]
        if config.modulation == "scale_shift":
            scale, shift = block[: config.width] + 1, block[config.width :]
            pre = scale * pre + shift
        else:
            pre = pre + block
        h = np.sin(config.w0 * pre)
    return h @ layers[-1]["kernel"] + layers[-1]["bias"] + 0.5


def test_coordinates_are_pixel_centres_in_row_column_order():
    grid = np.asarray(coordinate_grid(8))
    assert grid.shape == (64, 2)
    np.testing.assert_allclose(np.unique(grid), (np.arange(8) + 0.5) / 8)
    np.testing.assert_allclose(grid[1], [0.0625, 0.1875])  # the second pixel of the first row
    np.testing.assert_allclose(grid[8], [0.1875, 0.0625])
    oblong = np.asarray(coordinate_grid(2, 5)).reshape(2, 5, 2)
    np.testing.assert_allclose(oblong[1, 4], [0.75, 0.9])


@pytest.mark.parametrize("factor", [2, 3])
def test_coarse_coordinates_are_means_of_fine_ones(factor):
    fine = np.asarray(coordinate_grid(4 * factor)).reshape(4, factor, 4, factor, 2)
    np.testing.assert_allclose(
        fine.mean((1, 3)).reshape(-1, 2), np.asarray(coordinate_grid(4)), atol=1e-6
    )


@pytest.mark.parametrize("config", [SHIFT, SCALE_SHIFT], ids=lambda c: c.modulation)
def test_forward_pass_follows_the_definition(config):
    params = random_params(config, 1)
    coords = coordinate_grid(4)
    latent = np.random.default_rng(2).normal(size=config.latent_dim).astype(np.float32)
    got = siren.with_params(config, params)(coords, jnp.asarray(latent))
    expected = numpy_forward(config, params, coords, latent.astype(np.float64))
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_initial_weights_fill_the_published_ranges():
    config = ModelConfig(channels=3, width=256, depth=4, latent_dim=8, w0=30.0)
    layers = siren.init(config, 0)["siren"]["layers"]
    bound = np.sqrt(6 / 256) / 30
    for i, limit in enumerate([1 / 2, bound, bound, bound]):
        kernel = np.asarray(layers[i]["kernel"])
        assert np.abs(kernel).max() <= limit
        # uniform: the variance is limit^2 / 3
        np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.1)
        assert not layers[i]["bias"].any()


def test_activations_keep_their_spread_through_the_depth():
    """What the initialisation is for (Sitzmann et al. 2020, theorem 1.8).

    A wide layer of inputs with mean square s has Gaussian sums of variance 2 s, and the mean square
    of the sine of such a sum is (1 - exp(-4 s)) / 2: it settles near 0.63^2 instead of vanishing.
    """
    config = ModelConfig(channels=1, width=256, depth=10, latent_dim=4, w0=30.0)
    model = siren.with_params(config, siren.init(config, 0))
    first, *hidden = list(model.siren.layers)[:-1]
    h = jnp.sin(config.w0 * first(coordinate_grid(16)))
    expected = 0.5
    for layer in hidden:
        h = jnp.sin(config.w0 * layer(h))
        expected = (1 - np.exp(-4 * expected)) / 2
        np.testing.assert_allclose(h.std(), np.sqrt(expected), atol=0.02)


@pytest.mark.parametrize("modulation, per_unit", [("shift", 1), ("scale_shift", 2)])
@pytest.mark.parametrize("rate", [None, 0.01])
def test_parameter_count(modulation, per_unit, rate):
    width, depth, size, channels = 12, 6, 5, 3
    config = ModelConfig(channels, width, depth, size, 30.0, modulation, rate)
    count = sum(x.size for x in jax.tree.leaves(siren.init(config, 0)))
    base = (2 * width + width) + (depth - 2) * (width**2 + width) + (width * channels + channels)
    latent_map = (size + 1) * per_unit * (depth - 1) * width
    assert count == base + latent_map + (size if rate is None else 0)


def test_initial_modulation_changes_nothing():
    for config in (SHIFT, SCALE_SHIFT):
        model = siren.with_params(config, siren.init(config, 3))
        coords = coordinate_grid(5)
        np.testing.assert_array_equal(
            model(coords, jnp.zeros(config.latent_dim)), model.siren(coords)
        )


def test_flatten_round_trip():
    params = siren.init(SHIFT, 0)
    again = siren.unflatten(siren.flatten(params))
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
