"""Interpolation: paths and their ends, films, the command."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from functa_jax.evaluation import reconstruction
from functa_jax.functa import Functa
from functa_jax.images import film
from functa_jax.model import siren
from functa_jax.tasks import interpolate
from functa_jax.tasks.restoration.estimates import Models
from functa_jax.tasks.restoration.fitting import Gaussian
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.runs import read_json
from tests.functa_jax.tasks.conftest import MODEL
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)


lengths, rows = st.floats(0.1, 10), st.integers(0, 999)


@given(rows, lengths, st.floats(0, 1))
@settings(max_examples=30)
def test_spherical_keeps_the_length_and_turns_evenly(seed, length, t):
    a, b = np.random.default_rng(seed).normal(size=(2, 3, 5))
    a, b = (length * x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    turned = interpolate.spherical(a, b, t)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), length, rtol=1e-6)
    angle = np.arccos((a * b).sum(1) / length**2)
    cosine = (a * turned).sum(1) / length**2
    np.testing.assert_allclose(cosine, np.cos(t * angle), atol=1e-6)


@pytest.mark.parametrize("way", [interpolate.linear, interpolate.spherical])
def test_ends_are_the_ends(way):
    a, b = RANDOM.normal(size=(2, 4, 6))
    b[0], b[1], b[2] = a[0], 3 * a[1], 0  # where no angle is to be had
    np.testing.assert_allclose(way(a, b, 0.0), a, atol=1e-12)
    np.testing.assert_allclose(way(a, b, 1.0), b, atol=1e-12)
    assert np.isfinite(way(a, -a, 0.5)).all()


@given(st.integers(2, 60), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=20)
def test_pairs_differ_in_class_and_share_no_image(n, classes, seed):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, classes, n), [0, 1])
    try:
        found = interpolate.pairs(labels, 7, rng)
    except UserError:  # may happen when few are drawn
        return
    assert 1 <= len(found) <= 7
    assert (labels[found[:, 0]] != labels[found[:, 1]]).all()
    assert len(np.unique(found)) == found.size


@pytest.mark.parametrize("label", [0, -1])
def test_one_class_or_unknown_classes_make_all_pairs(label):
    assert len(interpolate.pairs(np.full(9, label), 30, RANDOM)) == 4
    with pytest.raises(UserError, match="no pairs are to be had of 1 in test"):
        interpolate.pairs(np.full(1, label), 30, RANDOM)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_films_take_pictures_of_any_channels(channels, tmp_path):
    paths = {"way": RANDOM.random((2, 3, 8, 8, channels)).astype(np.float32)}
    film.animate(tmp_path / "a.gif", paths)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4
    grown = film.enlarged(paths["way"])
    assert grown.shape == (2, 3, 64, 64, 3) and grown.dtype == np.uint8


@pytest.mark.parametrize("case", ["few", "one of a class", "no validation"])
def test_the_judge_of_pixels_takes_any_labels(case):
    n = 12 if case == "few" else 60
    labels = np.arange(n) % 10 if case == "few" else np.append(np.arange(n - 1) % 2, 5)
    images = RANDOM.integers(0, 256, (n, 4, 4, 1)).astype(np.uint8)
    split = datasets.Split(images, labels, np.arange(n))
    val = split.take(slice(0 if case == "no validation" else 5))
    data = datasets.Dataset("x", split, val, split, 10, "")
    model, accuracy = interpolate._classifier(data, reconstruction.pixel_rows(images), 0)
    assert set(model.classes_) == set(labels)
    assert (accuracy is None) == (case == "no validation")


def test_paths_begin_and_end_at_the_reconstructions():
    config = replace(MODEL, grid=2)
    functa = Functa(config, siren.init(config, 0), (8, 8))
    images = RANDOM.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    latents, _ = functa.encode(images)
    shift = SimpleNamespace(encode_ddim=lambda z: z + 1.0, decode_ddim=lambda e: e - 1.0)
    models = Models(functa, Gaussian.of(latents), reconstruction.pca(images, 5), shift)
    ends, pixels = np.array([[0, 1], [2, 3], [4, 0]]), reconstruction.pixel_rows(images)
    ways = interpolate._ways(models, pixels[ends], latents[ends])
    projected = models.pca.inverse_transform(models.pca.transform(pixels))
    for name, at in ways.items():
        whole = {"pixels, cross-fade": pixels, "PCA": projected}.get(name)
        whole = reconstruction.as_rows(functa.decode(latents)) if whole is None else whole
        for t in (0, 1):
            found = at(float(t)).reshape(3, -1)
            np.testing.assert_allclose(found, whole[ends[:, t]], atol=1e-4, err_msg=name)
    assert len(ways) == 5
    middle = ways["pixels, cross-fade"](0.5)
    np.testing.assert_allclose(middle, pixels[ends].mean(1), atol=1e-6)
    middle = functa.decode(latents[ends].mean(1))
    np.testing.assert_allclose(ways["latents, linear"](0.5), middle, atol=1e-5)


# ---- the command ----


def command(run, out, *more):
    flags = ["--run", run, "--out", out, "--count", "12", "--shown", "2", *more]
    return partial(cli.run, interpolate.main, interpolate.Config, args=list(map(str, flags)))


def test_the_command(grids, tmp_path):
    command(grids, tmp_path, "--frames", "5")()
    report = read_json(tmp_path / "interpolate.json")
    names = ["pixels, cross-fade", "PCA", "latents, linear", "latents, spherical"]
    assert [row["between"] for row in report["rows"]] == [*names, "test images themselves"]
    for row in report["rows"]:
        assert 0 < row["to train"] < 1 and 10 <= row["sure, %"] <= 100
    for row in report["rows"][:-1]:
        assert row["largest step, dB"] <= row["neighbours, dB"] + 1e-6
    fade = report["rows"][0]  # all its steps are as large
    assert fade["largest step, dB"] == pytest.approx(fade["neighbours, dB"], abs=1e-3)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"interpolate.json", *report["figures"]} and len(written) == 4
    with Image.open(tmp_path / "interpolate.gif") as gif:
        assert gif.n_frames == 8 and gif.info["loop"] == 0


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--frames", "8"), "--frames 8: give an odd number"),
        (("--frames", "1"), "--frames 1: must be in [3, 999]"),
        (("--shown", "0"), "--shown 0"),
    ],
)
def test_refusals(flags, words, grids, tmp_path, capsys):
    assert words in refusal(capsys, command(grids, tmp_path, *flags))
    assert not list(tmp_path.iterdir())
