"""Spatial functa: grids of cells, their maps, coordinates and rates."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax import meta_train
from functa_jax.functa import Functa
from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from functa_jax.training.inner_loop import encode, fit
from groundfloor import cli
from tests.refusals import refusal

S, SIDE, L = 3, 12, 4
GRID = ModelConfig(2, width=8, depth=4, latent_dim=L, w0=5.0, grid=S, rate_start=1.0)
KINDS = {
    f"{interpolation}-{map_size}-{coordinates}": replace(
        GRID, interpolation=interpolation, map_size=map_size, coordinates=coordinates
    )
    for interpolation in ("nearest", "bilinear")
    for map_size in (1, 3)
    for coordinates in ("global", "local")
}
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((3, SIDE, SIDE, 2), np.float32)
LATENTS = RANDOM.normal(size=(3, S, S, L)).astype(np.float32)


def functa_of(config, seed=0, resolution=(SIDE, SIDE)):
    return Functa(config, siren.init(config, seed), resolution)


@pytest.fixture(scope="module", params=KINDS)
def config(request):
    return KINDS[request.param]


# ---- the order of points ----


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from(list(KINDS)))
def test_restore_undoes_arrange(s, rows, columns, kind):
    config = replace(KINDS[kind], grid=s)
    images = np.random.default_rng(s).random((2, s * rows, s * columns, 3))
    pixels = siren.arrange(config, images)
    np.testing.assert_array_equal(siren.restore(config, pixels, images.shape[1:3]), images)


def test_points_are_where_arrange_puts_pixels(config):
    """A picture of its own coordinates, arranged, is `points` (up to the cell if local)."""
    resolution = (6, 12)
    picture = np.asarray(siren.coordinate_grid(*resolution)).reshape(1, *resolution, 2)
    expected = siren.arrange(config, picture)[0]
    if config.by_cells and config.coordinates == "local":
        expected = expected * S % 1
    points = np.broadcast_to(siren.points(config, resolution), expected.shape)
    np.testing.assert_allclose(points, expected, atol=1e-6)


# Bilinear grids decode pixels as points; one of them shows it.
@pytest.mark.parametrize("kind", [*(k for k in KINDS if "nearest" in k), "bilinear-3-local"])
def test_pixels_equal_points_anywhere(kind):
    functa = functa_of(KINDS[kind])
    coords = siren.coordinate_grid(SIDE)
    np.testing.assert_allclose(
        functa.decode(LATENTS).reshape(3, -1, 2), functa.decode(LATENTS, coords=coords), atol=1e-5
    )


@pytest.mark.parametrize("kind", ["nearest-3-local", "bilinear-3-local"])
def test_a_resolution_need_not_be_a_multiple_of_the_grid(kind):
    functa, coords = functa_of(KINDS[kind]), siren.coordinate_grid(7, 5)
    np.testing.assert_allclose(
        functa.decode(LATENTS, resolution=(7, 5)).reshape(3, -1, 2),
        functa.decode(LATENTS, coords=coords),
        atol=1e-5,
    )


# ---- what a cell sees ----


def changed_cells(config, cell):
    """Cells (S, S) of which some pixel changes when one cell's latent does."""
    functa = functa_of(config)
    other = LATENTS[:1].copy()
    other[0, *cell] += 1
    difference = np.abs(functa.decode(LATENTS[:1]) - functa.decode(other))[0].max(-1)
    return difference.reshape(S, SIDE // S, S, SIDE // S).max((1, 3)) > 0


@pytest.mark.parametrize("coordinates", ["global", "local"])
@pytest.mark.parametrize("cell", [(0, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("map_size", [1, 3])
def test_a_cell_changes_its_own_pixels_or_its_neighbours_too(cell, map_size, coordinates):
    config = KINDS[f"nearest-{map_size}-{coordinates}"]
    rows, columns = np.indices((S, S))
    distance = np.maximum(abs(rows - cell[0]), abs(columns - cell[1]))
    np.testing.assert_array_equal(changed_cells(config, cell), distance <= map_size // 2)


@pytest.mark.parametrize("map_size", [1, 3])
def test_bilinear_equals_nearest_at_the_centres_of_cells(map_size):
    centres = siren.coordinate_grid(S)
    nearest, bilinear = (
        functa_of(KINDS[f"{kind}-{map_size}-global"]).decode(LATENTS, coords=centres)
        for kind in ("nearest", "bilinear")
    )
    np.testing.assert_allclose(nearest, bilinear, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1, width=32), st.integers(1, 6))
def test_weights_of_interpolation(x, s):
    """They are those of numpy.interp between the centres, which holds the ends constant."""
    weights = np.asarray(siren.hat_weights(jnp.array([x], jnp.float32), s))[0]
    centres, heights = (np.arange(s) + 0.5) / s, np.arange(s) ** 2.0
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert weights @ heights == pytest.approx(np.interp(x, centres, heights), abs=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_a_linear_map_of_neighbours_is_a_convolution(size):
    kernel = RANDOM.normal(size=(size, size, L, 5)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        LATENTS, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = jax.vmap(lambda z: siren.neighbours(z, size) @ kernel.reshape(-1, 5))(LATENTS)
    np.testing.assert_allclose(found, expected, atol=1e-4)


# ---- equal to plain functa ----


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "-1-" in kind])
@pytest.mark.parametrize("modulation", ["shift", "scale_shift"])
def test_one_cell_is_plain_functa(kind, modulation):
    config = replace(KINDS[kind], grid=1, modulation=modulation)
    plain = ModelConfig(2, width=8, depth=4, latent_dim=L, w0=5.0, modulation=modulation)
    params = siren.init(replace(plain, rate_start=1.0), 3)
    latents, psnr = Functa(config, params, (SIDE, SIDE)).encode(IMAGES)
    expected, expected_psnr = Functa(plain, params, (SIDE, SIDE)).encode(IMAGES)
    np.testing.assert_allclose(latents[:, 0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(psnr, expected_psnr, atol=1e-4)


UPDATES = {
    "rates": {},
    "constant": {"inner_rate": 0.3},
    "rates of steps": {"step_rates": 2},
    "gauss-newton, 1": {"update": "gauss_newton"},
    "gauss-newton, 3": {"update": "gauss_newton", "cg_iterations": 3, "step_rates": 2},
}
EACH_UPDATE = pytest.mark.parametrize(
    "update",
    [
        pytest.param(update, id=name, marks=[] if name == "gauss-newton, 3" else pytest.mark.slow)
        for name, update in UPDATES.items()
    ],
)


@partial(jax.jit, static_argnames=("config", "first_order"))
def fit_all(config, params, coords, pixels, first_order):
    model = siren.with_params(config, params)
    return jax.vmap(
        lambda image: fit(model, coords, image, 3, penalty=0.01, first_order=first_order)[0]
    )(pixels)


def fitted(config, params, images, first_order=False):
    """Latents of images (n, h, w, C) after three steps with a penalty."""
    coords = siren.points(config, images.shape[1:3])
    return np.asarray(fit_all(config, params, coords, siren.arrange(config, images), first_order))


@pytest.mark.parametrize("first_order", [False, True])
@EACH_UPDATE
def test_independent_cells_are_small_images_of_their_own(update, first_order):
    """Nearest, local, 1 x 1: encoding an image is encoding each of its cells as an image; so a
    cell's steps depend neither on the number of cells nor on what the others hold."""
    config = replace(KINDS["nearest-1-local"], **update)
    assert config.independent
    params = siren.init(config, 1)
    latents = fitted(config, params, IMAGES, first_order)
    p = SIDE // S
    cells = IMAGES.reshape(3, S, p, S, p, 2).transpose(0, 1, 3, 2, 4, 5).reshape(-1, p, p, 2)
    whole = replace(config, grid=None, coordinates="global")
    alone = fitted(whole, params, cells, first_order)
    assert np.abs(alone).max() > 0.01
    np.testing.assert_allclose(latents.reshape(-1, L), alone, atol=2e-4)


@pytest.mark.parametrize("coordinates", ["local", "global"])
@EACH_UPDATE
def test_other_pixels_move_other_latents_only_through_neighbours(update, coordinates):
    changed = IMAGES.copy()
    changed[:, : SIDE // S, : SIDE // S] = 1 - changed[:, : SIDE // S, : SIDE // S]
    for map_size in (1, 3):
        config = replace(KINDS[f"nearest-{map_size}-{coordinates}"], **update)
        params = siren.init(config, 1)
        moved = np.abs(fitted(config, params, changed) - fitted(config, params, IMAGES)).max(-1)
        assert (moved[:, 0, 0] > 1e-3).all()
        moved[:, 0, 0] = 0
        assert (moved.max() <= 1e-6) == (map_size == 1)


# ---- rates ----


def course(config, params, steps):
    images = siren.arrange(config, IMAGES)
    return encode(config, params, siren.points(config, (SIDE, SIDE)), images, steps)


def test_each_step_has_its_rate_and_later_ones_the_last():
    """With rates (1, 0) steps after the first change nothing; with (1, 1) all are as without."""
    config = replace(GRID, step_rates=2)
    params = siren.init(config, 0)
    stop = {**params, "inner_rate": jnp.stack([jnp.ones(L), jnp.zeros(L)])}
    latents, _ = course(config, stop, 4)
    np.testing.assert_array_equal(latents[:, 1:], np.repeat(latents[:, 1:2], 4, axis=1))
    assert np.abs(latents[:, 1]).max() > 0
    same = course(config, {**params, "inner_rate": jnp.ones((2, L))}, 4)
    plain = course(GRID, {**params, "inner_rate": jnp.ones(L)}, 4)
    np.testing.assert_allclose(same[0], plain[0], atol=1e-6)


def test_rates_start_where_they_are_told_to():
    rates = siren.init(replace(GRID, step_rates=3, rate_start=0.5), 0)
    np.testing.assert_array_equal(rates["inner_rate"], np.full((3, L), 0.5, np.float32))


# ---- the command ----


def command(*flags):
    return lambda: cli.run(meta_train.main, meta_train.Config, meta_train.PRESETS, list(flags))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--grid", "3"), "--grid 3 does not divide digits images of 8x8"),
        (("--grid", "0"), "--grid 0: must be in [1,"),
        (("--map-size", "3"), "--map-size 3: needs --grid"),
        (("--coordinates", "local"), "--coordinates local: needs --grid"),
        (("--grid", "4", "--inner-points", "5"), "digits cells have only 4 pixels"),
        (("--inner-rate", "0.1", "--rates-of-steps"), "constant rates cannot be learned too"),
        (("--rate-start", "-1"), "--rate-start -1.0: must be above 0"),
        (("--rate-start", "5"), "--rate-start 5.0: must be in --rate-range 0 1"),
        (("--training-steps", "0"), "--training-steps 0: latents start at zero"),
        (("--inner-steps", "0"), "--inner-steps 0: must be in [1,"),
        (("--cg-iterations", "0"), "--cg-iterations 0: must be in [1,"),
        (("--classifier-rows", "0"), "--classifier-rows 0: must be in [2,"),
        (("--update", "gauss_newton", "--first-order"), "a Gauss-Newton step is not a gradient"),
    ],
)
def test_what_cannot_be_is_refused(flags, said, capsys, tmp_path):
    out = tmp_path / "run"
    assert said in refusal(capsys, command("digits", *flags, "--out", str(out)))
    assert not out.exists()
