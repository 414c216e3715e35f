"""Denoising: filters, noise, the command."""

import csv
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax.tasks import denoise
from functa_jax.tasks.restoration import estimates
from groundfloor import cli, plots
from groundfloor.runs import read_json
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("name", denoise.FILTERS)
def test_filters_keep_constants_and_smooth_each_picture_by_itself(name):
    filtered, _, strengths = denoise.FILTERS[name]
    pictures = np.full((2, 8, 8, 3), (0.2, 0.5, 0.9))
    np.testing.assert_allclose(filtered(pictures, strengths[-1]), pictures, atol=1e-6)
    pictures = 0.5 + 0.1 * RANDOM.standard_normal((2, 8, 8, 3))
    smooth = filtered(pictures, strengths[len(strengths) // 2])
    steps, before = (np.abs(np.diff(x, axis=2)).sum() for x in (smooth, pictures))
    assert steps < 0.8 * before
    np.testing.assert_array_equal(
        filtered(pictures[1:], strengths[3])[0], filtered(pictures, strengths[3])[1]
    )


@given(st.integers(0, 99), st.sampled_from([0.05, 0.3]))
@settings(max_examples=10)
def test_noise_has_its_spread_and_streams_of_its_own(seed, noise):
    pictures = np.full((40, 8, 8, 1), 0.5)
    draws = [
        (denoise.noisy_pictures(pictures, noise, path) - pictures) / noise
        for path in ((seed, "test", "a"), (seed, "validation", "a"), (seed + 1, "test", "a"))
    ]
    bound = 5 / np.sqrt(pictures.size)
    for number, draw in enumerate(draws):
        assert abs(draw.mean()) < bound and abs(draw.std() - 1) < bound
        for other in draws[:number]:
            assert abs(np.mean(draw * other)) < bound
    fewer = denoise.noisy_pictures(pictures[:7], noise, (seed, "test", "a"))
    np.testing.assert_allclose((fewer - pictures[:7]) / noise, draws[0][:7], atol=1e-5)


def test_little_strength_changes_little():
    pictures = RANDOM.random((2, 8, 8, 1))
    np.testing.assert_allclose(denoise.blurred(pictures, 0.1), pictures, atol=1e-6)
    np.testing.assert_allclose(denoise.total_variation(pictures, 1e-5), pictures, atol=1e-3)


# ---- the command ----


def command(run, out, *more):
    flags = ["--run", run, "--out", out, "--count", "12", "--shown", "2", *more]
    return partial(cli.run, denoise.main, denoise.Config, args=list(map(str, flags)))


def test_the_command(vectors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimates, "NOISES", (0.1, 0.4))
    monkeypatch.setitem(plots._formats, "further", ())  # --figures holds for all that comes after
    returned = command(vectors, tmp_path, "--noise", "0.1", "--table", "csv", "--figures", "pdf")()
    said = capsys.readouterr().out
    assert "12 test images, settings chosen on 3 validation images" in said
    # The inner loop, Adam, one more noise (100 steps each); no diffusion prior.
    assert f"{12 * 210 + 3 * 310:,} steps of fitting one image, about" in said
    report = read_json(tmp_path / "denoise.json")
    assert report == returned | {"config": report["config"]}
    methods = {row["method"]: row["noise 0.1"] for row in report["rows"]}
    assert list(methods) == [
        "as it is",
        "latents, inner loop",
        "latents, more steps (Adam)",
        "latents, Gaussian prior",
        "PCA, 6 numbers, Gaussian prior",
        "PCA, all components, Gaussian prior",
        "PCA, 6 numbers, projection",
        "total variation",
        "Gaussian filter",
        "non-local means",
    ]
    assert methods["as it is"] == pytest.approx(20, abs=3)  # 0.1 in dB, but for the clipping
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"denoise.json", "denoise.csv", "denoise_0.1.png", "denoise_0.1.pdf"}
    with (tmp_path / "denoise.csv").open() as file:
        table = {row["method"]: float(row["noise 0.1"]) for row in csv.DictReader(file)}
    assert table == methods
    assert (tmp_path / "denoise_0.1.pdf").read_bytes().startswith(b"%PDF")


def test_a_report_does_not_go_where_a_file_lies(vectors, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert "a file lies where" in refusal(capsys, command(vectors, file))
    assert "a file lies where" in refusal(capsys, command(vectors, file / "deeper"))
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--noise", "0"), "--noise 0.0: must be in (0, 10]"),
        (("--noise", "0.1", "nan"), "--noise nan: must be a finite number"),
        (("--noise", "0.1", "0.1"), "--noise 0.1 0.1: give each once"),
        (("--noise",), "--noise: needs at least one value"),
        (("--count", "0"), "--count 0"),
        (("--seed", "-1"), "--seed -1"),
        (("--table", "html"), "html"),
    ],
)
def test_refusals(flags, words, vectors, tmp_path, capsys):
    assert words in refusal(capsys, command(vectors, tmp_path, *flags))
    assert not list(tmp_path.iterdir())
