"""Compression with a functa: images packed and unpacked, the command, refusals."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from functa_jax import functa
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import compress, task
from functa_jax.tasks.compression import codec, curves, files
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError
from tests import tfds
from tests.functa_jax.tasks.conftest import IMAGES
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)


def command(*args):
    return cli.run(compress.main, compress.Config, args=[str(arg) for arg in args])


@pytest.mark.slow
def test_weights_are_the_root_mean_square_of_the_jacobian(grids):
    model = functa.load(grids)
    latents = RANDOM.normal(size=(6, model.config.numbers)).astype(np.float32) * 1e-2
    found = files.weights(model, latents)
    apply = siren.with_params(model.config, model.params)
    points = siren.points(model.config, (8, 8))
    shape = model.config.latent_shape
    jacobians = jax.vmap(jax.jacfwd(lambda z: apply(points, z.reshape(shape)).ravel()))(latents)
    expected = np.sqrt(np.mean(np.asarray(jacobians) ** 2, axis=(0, 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    latents[:, 1] = 0.5
    assert files.weights(model, latents)[1] == 0


def test_command_packs_and_unpacks(vectors, tmp_path, capsys):
    images = datasets.load("digits").test.images[:30]
    np.save(tmp_path / "images.npy", images[..., 0])
    flags = ("--bits", 8, "--steps", 3)
    source, packed, back = (tmp_path / name for name in ("images.npy", "small.functa", "back.npy"))
    summary = command("--run", vectors, "--pack", source, "--to", packed, *flags)
    command("--run", vectors, "--unpack", packed, "--to", back)
    said = capsys.readouterr().out
    found = np.load(back)
    model = functa.load(vectors)
    assert found.shape == images.shape and found.dtype == np.uint8
    train = load_functaset(vectors).train.latents.reshape(IMAGES, -1)
    coder = codec.fit(train, 8, files.weights(model, train))
    symbols = coder.quantise(model.encode(images)[0].reshape(30, -1))
    expected = files.rendered(model, coder.dequantise(symbols))
    np.testing.assert_array_equal(found, expected)
    assert summary["bytes"] == packed.stat().st_size
    assert f"30 images in {summary['bytes']:,} bytes" in said
    assert f"{curves.mean_psnr(found, images):.2f} dB" in said


def test_an_encoded_file_belongs_to_its_functa(vectors, tmp_path):
    found = task.load(task.TaskConfig(vectors))
    path = tmp_path / "x"
    files.encode_file(path, found, found.data.test.images[:5])
    assert files.decode_file(path, found.functa).shape == (5, 8, 8, 1)
    moved = {**found.functa.params, "inner_rate": 2 * found.functa.params["inner_rate"]}
    with pytest.raises(UserError, match="was packed with functa"):
        files.decode_file(path, replace(found.functa, params=moved))


def test_command_measures(grids, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compress, "SHOWN", 2)
    monkeypatch.setattr(files, "RENDERED", 8)
    monkeypatch.setattr(curves, "BITS", (2, 3, 4, 5))
    monkeypatch.setattr(curves, "QUALITIES", {"JPEG": (10, 90), "WebP": (10, 90)})
    command("--run", grids, "--out", tmp_path, "--images", 12, "--steps", 4)
    report = json.loads((tmp_path / "compress.json").read_text())
    methods = list(dict.fromkeys(row["method"] for row in report["rows"]))
    ours = ["latents, 3 steps", "latents, 4 steps"]
    pca = ["PCA, 24 numbers", f"PCA, {IMAGES} numbers"]  # as many as there are train images
    assert methods == [*ours, *pca, "JPEG", "WebP"]
    for row in report["rows"]:
        assert 0 < row["bits/pixel"] < row["bits/pixel, whole files"] and row["PSNR (dB)"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"compress.json", *report["figures"]}
    assert "The network weighs" in capsys.readouterr().out


def test_a_kind_of_file_that_cannot_hold_the_channels_is_left_out_and_said(
    tmp_path, monkeypatch, capsys
):
    images = RANDOM.integers(0, 256, (60, 8, 8, 4)).astype(np.uint8)
    data = tmp_path / "data"
    labels = np.arange(60) % 3
    splits = {"train": tfds.rows_of(images[:40], labels), "test": tfds.rows_of(images[40:], labels)}
    tfds.write_tfds(data, "rgba", splits, num_classes=3, shape=(8, 8, 4))
    config = siren.ModelConfig(channels=4, width=8, depth=3, latent_dim=4, w0=5.0)
    model = functa.Functa(config, siren.init(config, 0), (8, 8), metadata={"data": "rgba"})
    run = tmp_path / "run"
    run.mkdir()
    model.save(run / "functa.npz")
    exporter.export(model, datasets.load("rgba", data), run / "functaset.npz")
    (run / "config.json").write_text(json.dumps({"dataset": "rgba"}))
    monkeypatch.setattr(files, "RENDERED", 8)
    command("--run", run, "--data-dir", data, "--steps", 3, "--bits", 7)
    report = json.loads((run / "tasks" / "compress.json").read_text())
    methods = {row["method"] for row in report["rows"]}
    assert "WebP" in methods and "JPEG" not in methods
    said = capsys.readouterr().out
    assert "No JPEG: such a file cannot hold 4 channels." in said
    assert "--bits has no effect without --pack" in said
    assert "fitting 20 images with 3 steps, about" in said


# ---- refusals ----


@pytest.mark.parametrize(
    "flags",
    [
        ("--images", 0),
        ("--steps", 0),
        ("--bits", 0),
        ("--bits", 15),
        ("--pack", "a.npy"),
        ("--to", "b"),
        ("--unpack", "a"),
        ("--pack", "a.npy", "--unpack", "b", "--to", "c"),
    ],
    ids=str,
)
def test_command_refuses_impossible_flags(flags, vectors, capsys):
    assert flags[0] in refusal(capsys, lambda: command("--run", vectors, *flags))


@pytest.mark.parametrize(
    "images",
    [np.zeros((3, 8, 8)), np.zeros((3, 9, 8), np.uint8), np.zeros((0, 8, 8), np.uint8), b"text"],
    ids=["floats", "size", "none", "text"],
)
def test_command_refuses_what_it_cannot_pack(images, vectors, capsys, tmp_path):
    path = tmp_path / "images.npy"
    if isinstance(images, bytes):
        path.write_bytes(images)
    else:
        np.save(path, images)
    flags = ("--pack", path, "--to", tmp_path / "out")
    refusal(capsys, lambda: command("--run", vectors, *flags))
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_damaged_file(vectors, capsys, tmp_path):
    rows = RANDOM.normal(size=(40, 6)).astype(np.float32)
    name = functa.load(vectors).hash
    packed, _ = codec.packed(name, codec.fit(rows, 5, np.ones(6)), rows)
    (tmp_path / "x").write_bytes(packed[:-9])
    flags = ("--unpack", tmp_path / "x", "--to", tmp_path / "out.npy")
    assert "is damaged" in refusal(capsys, lambda: command("--run", vectors, *flags))
    assert not (tmp_path / "out.npy").exists()
