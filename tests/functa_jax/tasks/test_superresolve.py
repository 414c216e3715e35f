"""Super-resolution: averages over blocks, Pillow's filters, both ways to see, the command."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from functa_jax.tasks import superresolve
from functa_jax.tasks.restoration import estimates
from functa_jax.tasks.restoration.estimates import Estimate, Models
from functa_jax.tasks.restoration.fitting import Seen, block_means
from functa_jax.tasks.restoration.protocol import Case, Study
from groundfloor import cli
from groundfloor.runs import read_json
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)


def test_factors_divide_the_sides():
    sides = [(8, 8), (10, 10), (30, 45), (218, 178), (7, 7)]
    found = [superresolve.usual_factors(each) for each in sides]
    assert found == [(2, 4), (2,), (3,), (2,), ()]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=15)
def test_block_means(rows, columns, factor):
    pictures = np.random.default_rng(0).random((2, rows * factor, columns * factor, 3))
    found = block_means(pictures, factor)
    assert found.shape == (2, rows, columns, 3)
    for i, j in np.ndindex(rows, columns):
        block = pictures[:, i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
        np.testing.assert_allclose(found[:, i, j], block.mean((1, 2)))


def test_nearest_repeats_pixels():
    small = RANDOM.random((2, 3, 4, 3), np.float32)
    found = superresolve.enlarge(small, (6, 8), "nearest")
    np.testing.assert_array_equal(found, small.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("name", superresolve.FILTERS)
def test_filters_are_those_of_pillow_and_keep_constants(name):
    constant = np.full((1, 4, 4, 3), 0.3, np.float32)
    np.testing.assert_allclose(superresolve.enlarge(constant, (8, 12), name), 0.3, atol=1e-6)
    pictures = RANDOM.integers(80, 170, (1, 5, 4, 3)).astype(np.uint8)  # nothing clips
    found = superresolve.enlarge(pictures / 255, (10, 8), name)
    expected = Image.fromarray(pictures[0]).resize((8, 10), superresolve.FILTERS[name])
    np.testing.assert_allclose(255 * found[0], np.asarray(expected), atol=2.01)  # it rounds twice


def test_the_better_way_on_validation_is_taken(monkeypatch):
    """Averages win for one method, centres for the other; PCA is asked for averages alone."""
    asked = []

    def tried(self, case, models=None):
        models = models or self.models
        asked.append((case.val.oversample, case.test.oversample, models.pca, models.normal))
        dB = {"a": case.test.oversample, "b": -case.test.oversample}
        return {name: Estimate(None, value, {"steps": 1}) for name, value in dB.items()}

    monkeypatch.setattr(Study, "estimates", tried)
    study = Study.__new__(Study)
    study.models = Models(None, None, "PCA", None, normal="all")
    seen = [Seen(pictures, oversample=4) for pictures in RANDOM.random((2, 3, 2, 2, 1))]
    methods = superresolve._estimates(study, Case("x 4", "x.png", *seen))
    assert asked == [(4, 4, "PCA", "all"), (1, 1, None, None)]
    ways = {name: estimate.settings["seen as"] for name, estimate in methods.items()}
    assert ways == {"a": "averages", "b": "centres"}


# ---- the command ----


def command(run, out, *more):
    flags = ["--run", run, "--out", out, "--count", "12", "--shown", "2", *more]
    return partial(cli.run, superresolve.main, superresolve.Config, args=list(map(str, flags)))


@pytest.mark.slow
def test_the_command(grids, tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "NOISES", (0.1, 0.4))
    command(grids, tmp_path, "--factor", "2", "--resolution", "20")()
    report = read_json(tmp_path / "superresolve.json")
    rows = {row.pop("method"): row for row in report["rows"]}
    assert list(rows) == [
        "latents, inner loop",
        "latents, more steps (Adam)",
        "latents, Gaussian prior",
        "PCA, 24 numbers, Gaussian prior",
        "PCA, all components, Gaussian prior",
        "nearest",
        "bicubic",
        "Lanczos",
    ]
    assert all(list(row) == ["x 2"] and 0 < row["x 2"] < 40 for row in rows.values())
    assert report["figures"] == ["superresolve_x2.png", "superresolve_large.png"]
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"superresolve.json", *report["figures"]}


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--factor", "3"), "--factor 3 does not divide 8x8"),
        (("--factor", "2", "16"), "--factor 16 does not divide"),
        (("--factor", "1"), "--factor 1: must be in [2,"),
        (("--factor", "2", "2"), "--factor 2 2: give each once"),
        (("--resolution", "0"), "--resolution 0: must be in [1, 4096]"),
        (("--count", "0"), "--count 0"),
    ],
)
def test_refusals(flags, words, grids, tmp_path, capsys):
    assert words in refusal(capsys, command(grids, tmp_path, *flags))
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_network_is_refused(tmp_path, capsys):
    assert "does not exist" in refusal(capsys, command(tmp_path, tmp_path / "out"))
