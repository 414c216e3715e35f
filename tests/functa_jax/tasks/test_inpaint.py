"""Inpainting: what is hidden, the fillings that know no network, the command."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax.tasks import inpaint
from functa_jax.tasks.restoration import estimates
from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.runs import read_json
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)


def config(**given):
    return inpaint.Config(run=Path("none"), **given)


# ---- what is hidden ----


@given(st.floats(0.05, 0.95), st.integers(0, 99))
@settings(max_examples=20)
def test_random_masks_hide_their_share_exactly(share, seed):
    draw = inpaint.masks(config(hidden=(share,)), (7, 9))[f"random {100 * share:g} %"]
    rng = np.random.default_rng(seed)
    assert [int((~draw(rng)).sum()) for _ in range(3)] == [round(share * 63)] * 3


def test_random_masks_are_drawn_for_each_image_and_everywhere():
    draw = inpaint.masks(config(hidden=(0.25,)), (4, 4))["random 25 %"]
    rng = np.random.default_rng(0)
    hidden = np.mean([~draw(rng) for _ in range(2000)], axis=0)
    assert np.abs(hidden - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_each_kind_and_split_has_masks_of_its_own():
    draw = inpaint.masks(config(hidden=(0.5,)), (8, 8))["random 50 %"]
    paths = [(0, split, kind) for split in ("test", "validation") for kind in ("a", "b")]
    first, *others = (inpaint.drawn(draw, 6, path) for path in paths)
    np.testing.assert_array_equal(first, inpaint.drawn(draw, 6, paths[0]))
    np.testing.assert_array_equal(first[:2], inpaint.drawn(draw, 2, paths[0]))
    assert all((first != other).any() for other in others)


def test_half_and_box():
    kinds = inpaint.masks(config(box=0.5), (8, 6))
    half, box = kinds["half"](None), kinds["box"](None)
    assert half[:4].all() and not half[4:].any()
    expected = np.ones((8, 6), bool)
    expected[2:6, 1:4] = False  # 4 x 3 of 8 x 6
    np.testing.assert_array_equal(box, expected)


@pytest.mark.parametrize(
    "given", [{"hidden": (0.999,)}, {"hidden": (0.001,)}, {"box": 0.95}, {"box": 0.05}]
)
def test_a_share_that_rounds_to_all_or_nothing_is_refused(given):
    with pytest.raises(UserError, match=r"hides (every|no) pixel of 8x8"):
        inpaint.masks(config(**given), (8, 8))


# ---- fillings ----

ROWS, COLUMNS = np.mgrid[:9, :9] / 8
PLANE = np.stack([0.2 + 0.3 * ROWS + 0.4 * COLUMNS, 0.9 - 0.5 * COLUMNS], axis=-1)
INSIDE = np.ones((9, 9), bool)
INSIDE[2:7, 3:6] = False


@pytest.mark.parametrize("name", inpaint.FILLS)
def test_fillings_keep_what_is_visible_and_know_nothing_else(name):
    mask = RANDOM.random((9, 9)) < 0.5
    picture = RANDOM.random((9, 9, 2))
    filled = inpaint.FILLS[name](picture, mask)
    np.testing.assert_array_equal(filled[mask], picture[mask])
    other = np.where(mask[..., None], picture, 0.123)
    np.testing.assert_allclose(inpaint.FILLS[name](other, mask), filled, atol=1e-9)


@pytest.mark.parametrize("fill", [inpaint.linear, inpaint.biharmonic])
def test_a_plane_is_filled_exactly(fill):
    np.testing.assert_allclose(fill(PLANE, INSIDE), PLANE, atol=1e-6)


def test_mean_colour_is_of_the_visible_pixels():
    filled = inpaint.mean_colour(PLANE, INSIDE)
    np.testing.assert_allclose(filled[4, 4], PLANE[INSIDE].mean(0))


@pytest.mark.parametrize("known", [[(3, 4)], [(0, 0), (8, 8)], [(2, 1), (2, 5), (2, 7)]])
def test_linear_takes_the_nearest_where_nothing_lies_around(known):
    """One pixel, two, or all on one line: no triangle anywhere."""
    mask = np.zeros((9, 9), bool)
    mask[tuple(np.transpose(known))] = True
    filled = inpaint.linear(PLANE, mask)
    for i, j in np.argwhere(~mask):
        distances = [np.hypot(i - k, j - m) for k, m in known]
        near = [PLANE[p] for p, d in zip(known, distances, strict=True) if d == min(distances)]
        assert any(np.array_equal(filled[i, j], colour) for colour in near)


# ---- the command ----


def command(run, out, *more):
    flags = ["--run", run, "--out", out, "--count", "12", "--shown", "2", *more]
    return partial(cli.run, inpaint.main, inpaint.Config, args=list(map(str, flags)))


@pytest.mark.slow
def test_the_command(grids, tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "NOISES", (0.1, 0.4))
    command(grids, tmp_path, "--hidden", "0.5")()
    report = read_json(tmp_path / "inpaint.json")
    rows = {row.pop("method"): row for row in report["rows"]}
    assert list(rows) == [
        "latents, inner loop",
        "latents, more steps (Adam)",
        "latents, Gaussian prior",
        "PCA, 24 numbers, Gaussian prior",
        "PCA, all components, Gaussian prior",
        "mean colour",
        "linear",
        "biharmonic",
    ]
    for row in rows.values():
        assert list(row) == ["random 50 %", "half", "box"]
        assert all(0 < dB < 40 for dB in row.values())
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"inpaint.json", *report["figures"]} and len(report["figures"]) == 3
    assert any("No diffusion prior" in remark for remark in report["remarks"])
    assert "steps" in report["remarks"][1] and "noise" in report["remarks"][1]


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--hidden", "1"), "--hidden 1.0: must be in (0, 1)"),
        (("--hidden", "0.5", "0"), "--hidden 0.0: must be in (0, 1)"),
        (("--hidden", "0.5", "0.5"), "--hidden 0.5 0.5: give each once"),
        (("--hidden", "0.999"), "mask 'random 99.9 %' hides every pixel of 8x8"),
        (("--box", "1.5"), "--box 1.5: must be in (0, 1)"),
        (("--box", "nan"), "--box nan"),
        (("--count", "0"), "--count 0"),
        (("--shown", "-1"), "--shown -1"),
    ],
)
def test_refusals(flags, words, grids, tmp_path, capsys):
    assert words in refusal(capsys, command(grids, tmp_path, *flags))
    assert not list(tmp_path.iterdir())


def test_a_prior_of_another_functa_is_refused(grids, tmp_path, capsys):
    (tmp_path / "prior.npz").write_bytes(b"")
    assert "prior.npz" in refusal(capsys, command(grids, tmp_path))
