"""The viewer's JavaScript against the JAX decoder, in V8."""

import contextlib
import itertools
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from py_mini_racer import MiniRacer

from functa_jax import view
from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from groundfloor import plots
from tests.functa_jax.random_functa import RANDOM, functa_of, latents_of

# The width is no multiple of four, which the kernel's panels are; nor 70 of 32, its blocks.
PLAIN = ModelConfig(3, width=10, depth=4, latent_dim=5, w0=20.0)
GRID = replace(PLAIN, channels=1, latent_dim=3, grid=3)
KINDS = {
    "plain": PLAIN,
    "scaled": replace(PLAIN, modulation="scale_shift"),
    "two layers": replace(PLAIN, depth=2),
    **{
        f"{interpolation}-{size}-{coordinates}-{modulation}": replace(
            GRID,
            interpolation=interpolation,
            map_size=size,
            coordinates=coordinates,
            modulation=modulation,
        )
        for interpolation, size, coordinates, modulation in (
            ("nearest", 1, "local", "shift"),
            ("nearest", 3, "global", "scale_shift"),
            ("bilinear", 1, "global", "scale_shift"),
            ("bilinear", 3, "local", "shift"),
        )
    },
}
POINTS = RANDOM.random((70, 2))
SCRIPTS = ("kernel.js", "decoder.js", "colours.js")


def colours_at(functa, latents, points):
    """Colours (n, M, C) by `ModulatedSiren.at`."""
    model = siren.with_params(functa.config, functa.params)
    points = np.asarray(points, np.float32)
    return np.stack([model.at(points, latent) for latent in latents])


@cache
def expectation(kind):
    """(functa, two latents, their colours at POINTS) of a kind."""
    functa = functa_of(KINDS[kind])
    latents = latents_of(functa.config)
    return functa, latents, colours_at(functa, latents, POINTS)


@pytest.fixture(scope="module")
def v8():
    with contextlib.closing(MiniRacer()) as engine:
        scripts = [(view.TEMPLATES / name).read_text() for name in SCRIPTS]
        engine.eval("\n".join(scripts))
        engine.eval(
            """
            function plain(bytes) {
              const buffer = new ArrayBuffer(bytes);
              return { buffer, product: plainProduct(new Float32Array(buffer)), name: "plain" };
            }
            function load(config, params, kernel) {
              for (const name in params) params[name] = Float32Array.from(params[name]);
              decoder = new Decoder(config, params, kernel);
            }
            function decode(latent, points) {
              decoder.setLatent(Float32Array.from(latent));
              return JSON.stringify(Array.from(decoder.colours(Float64Array.from(points))));
            }
            function shaded(values, channels, white) {
              return JSON.stringify(Array.from(shades(Float64Array.from(values), channels, white)));
            }"""
        )
        yield engine


def decoded(v8, functa, latents, points, kernel="makeKernel"):
    """Colours (n, M, C) at points (M, 2), by the viewer's JavaScript."""
    params = {name: value.ravel().tolist() for name, value in view.decoding(functa).items()}
    v8.eval(f"load({json.dumps(vars(functa.config))}, {json.dumps(params)}, {kernel})")
    points = json.dumps(np.asarray(points, float).ravel().tolist())
    colours = [
        json.loads(v8.eval(f"decode({json.dumps(latent.ravel().tolist())}, {points})"))
        for latent in latents
    ]
    return np.array(colours).reshape(len(latents), -1, functa.config.channels)


@pytest.mark.parametrize("kernel", ["makeKernel", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_decodes_as_in_jax(kind, kernel, v8):
    functa, latents, expected = expectation(kind)
    assert expected.std(axis=1).min() > 0.01  # a picture, and not one colour
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    found = decoded(v8, functa, latents, POINTS, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("modality", ["video", "voxels"])
def test_a_slice_is_at_the_first_of_three_coordinates(modality, v8):
    functa = functa_of(replace(PLAIN, inputs=3, modality=modality), (4, 5, 6))
    latents = latents_of(functa.config, 1)
    points = np.concatenate([np.full((70, 1), 0.3), POINTS], axis=1)
    expected = functa.decode(latents, coords=points)
    assert expected.std() > 0.01
    logits = functa.config.loss == "bernoulli"
    source = "Object.assign({loss: 'bernoulli'}, config)" if logits else "config"
    v8.eval(
        f"""var decode2D = decode;
        decode = (latent, points) => {{
          const config = decoder.config;
          decoder.config = {source};
          decoder.slice = 0.3;
          return decode2D(latent, points);
        }};"""
    )
    try:
        np.testing.assert_allclose(decoded(v8, functa, latents, POINTS), expected, atol=1e-4)
    finally:
        v8.eval("decode = decode2D")


@pytest.mark.parametrize("s", [2, 6])
def test_points_between_cells_belong_to_the_same_as_in_jax(s, v8):
    """Corners, borders of cells, and the pixel centres of odd resolutions, which lie on some."""
    functa = functa_of(replace(GRID, grid=s, interpolation="nearest"))
    borders = list(itertools.product(np.linspace(0, 1, 2 * s + 1), repeat=2))
    points = np.concatenate([siren.coordinate_grid(9), siren.coordinate_grid(5, 3), borders])
    points = np.resize(points, (300, 2))  # of one shape, so that little is compiled
    latents = latents_of(functa.config, 1)
    expected = colours_at(functa, latents, points)
    np.testing.assert_allclose(decoded(v8, functa, latents, points), expected, atol=1e-4)


def test_v8_runs_both_kernels(v8):
    assert v8.eval("makeKernel(1).name") == "WebAssembly"
    v8.eval("const compiler = WebAssembly; WebAssembly = undefined")
    assert v8.eval("makeKernel(1).name") == "JavaScript"
    v8.eval("WebAssembly = compiler")


@pytest.mark.parametrize("kernel", ["makeKernel", "plain"])
def test_product_is_the_matrix_product(kernel, v8):
    fan_in, fan_out, points = 5, 12, 16
    weights, inputs = RANDOM.normal(size=(fan_in, fan_out)), RANDOM.normal(size=(fan_in, points))
    numbers = json.dumps([weights.ravel().tolist(), inputs.ravel().tolist()])
    found = v8.eval(
        f"""(() => {{
          const [weights, inputs] = {numbers}, kernel = {kernel}(4096);
          const memory = new Float32Array(kernel.buffer);
          pack(weights, {fan_in}, {fan_out}, memory);
          memory.set(inputs, 100);
          kernel.product(0, 400, 1600, {fan_in}, {fan_out}, {points});
          return JSON.stringify(Array.from(memory.subarray(400, 400 + {fan_out * points})));
        }})()"""
    )
    expected = (weights.T @ inputs).ravel()
    np.testing.assert_allclose(json.loads(found), expected, atol=1e-5)


def test_sine_is_the_sine(v8):
    x = np.concatenate([np.linspace(-300, 300, 2001), np.pi * np.arange(-9, 9) / 2])
    found = json.loads(v8.eval(f"JSON.stringify({json.dumps(x.tolist())}.map(sine))"))
    np.testing.assert_allclose(found, np.sin(x), atol=1e-7)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("white", [1, 255])
def test_channels_become_the_colours_of_the_other_pictures(v8, channels, white):
    values = RANDOM.uniform(-0.2, 1.2, (6, channels)) * white
    shown = json.loads(v8.call("shaded", values.ravel().tolist(), channels, white))
    expected = 255 * plots.as_rgb(np.clip(values / white, 0, 1))
    shown = np.reshape(shown, (6, 4))
    np.testing.assert_allclose(shown[:, :3], expected, atol=0.5 + 1e-9)
    assert (shown[:, 3] == 255).all()
