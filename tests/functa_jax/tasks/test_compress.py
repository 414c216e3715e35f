"""Compression with a functa: images packed and unpacked, the command, refusals."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from functa_jax import functa
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import compress, task
from functa_jax.tasks.compression import adapt, codec, curves, decoder, encoding, files
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError
from tests import tfds
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)
QUALITIES = curves.QUALITIES


def command(*args):
    return cli.run(compress.main, compress.Config, args=[str(arg) for arg in args])


@pytest.mark.slow
def test_pulled_noise_is_the_jacobian_transposed(grids):
    model = functa.load(grids)
    shape = model.config.latent_shape
    latents = RANDOM.normal(size=(3, *shape)).astype(np.float32) * 1e-2
    found = decoder.pulled_noise(model, latents, seed=5)
    apply = siren.with_params(model.config, model.params)
    points = siren.points(model.config, (8, 8))
    signs = np.random.default_rng(5).integers(0, 2, (3, 16, 4, 1), np.int8) * 2.0 - 1
    jacobians = jax.vmap(jax.jacfwd(lambda z: apply(points, z)))(latents)
    expected = np.einsum("npqc,npqcijk->nijk", signs, np.asarray(jacobians))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_command_packs_and_unpacks(vectors, tmp_path, capsys):
    images = datasets.load("digits").test.images[:30]
    np.save(tmp_path / "images.npy", images[..., 0])
    flags = ("--step", 8, "--training", 0)
    source, packed, back = (tmp_path / name for name in ("images.npy", "small.functa", "back.npy"))
    summary = command("--run", vectors, "--pack", source, "--to", packed, *flags)
    command("--run", vectors, "--unpack", packed, "--to", back)
    said = capsys.readouterr().out
    found = np.load(back)
    model = functa.load(vectors)
    assert found.shape == images.shape and found.dtype == np.uint8
    coder = encoding.Latents(model, model, load_functaset(vectors), {"steps": 0, "seed": 0})
    grids, coded = model.encode(images)[0].reshape(30, 1, 1, -1), coder.codec(8)
    symbols, means, _ = coded.choose(coded.transform.apply(grids))
    expected = encoding.rendered(model, coded.dequantise(symbols, means))
    np.testing.assert_array_equal(found, expected)
    assert summary["bytes"] == packed.stat().st_size
    assert f"30 images in {summary['bytes']:,} bytes" in said
    assert f"{curves.mean_psnr(found, images):.2f} dB" in said


def test_an_encoded_file_belongs_to_its_functa(vectors, tmp_path):
    found = task.load(task.TaskConfig(vectors))
    path = tmp_path / "x"
    coder = encoding.Latents(found.functa, found.functa, found.functaset, {"steps": 0})
    files.encode_file(path, coder, found.data.test.images[:5], 32)
    assert files.decode_file(path, found.functa).shape == (5, 8, 8, 1)
    moved = {**found.functa.params, "inner_rate": 2 * found.functa.params["inner_rate"]}
    with pytest.raises(UserError, match="was packed with functa"):
        files.decode_file(path, replace(found.functa, params=moved))


def test_an_adapted_decoder_makes_better_pictures_of_rounded_latents_and_packs(
    vectors, tmp_path, capsys
):
    words = ["--run", vectors, "--out", tmp_path, "--steps", 60, "--rate", 3e-3]
    words = list(map(str, words))
    found = cli.run(adapt.main, adapt.Config, args=words)
    assert found["after"] > found["before"]
    adapted = functa.load(tmp_path)
    assert adapted.metadata["adapted_from"] == functa.load(vectors).hash != adapted.hash
    (tmp_path / "functa.npz").unlink()
    again = cli.run(adapt.main, adapt.Config, args=words)  # from its last checkpoint
    assert again == found and functa.load(tmp_path).hash == adapted.hash

    np.save(tmp_path / "images.npy", datasets.load("digits").test.images[:3])
    where = ("--run", vectors, "--decoder", tmp_path / "functa.npz")
    flags = ("--pack", tmp_path / "images.npy", "--to", tmp_path / "x", "--training", 0)
    command(*where, *flags)
    command(*where, "--unpack", tmp_path / "x", "--to", tmp_path / "y.npy")
    assert np.load(tmp_path / "y.npy").shape == (3, 8, 8, 1)
    flags = ("--unpack", tmp_path / "x", "--to", tmp_path / "z.npy")
    capsys.readouterr()
    assert "was packed with" in refusal(capsys, lambda: command("--run", vectors, *flags))


def test_a_decoder_that_became_worse_is_not_written(vectors, tmp_path):
    config = adapt.Config(vectors, out=tmp_path, steps=2, rate=3.0)
    with pytest.raises(UserError, match=r"has not become better \(val .*lower --rate"):
        adapt.main(config)
    assert not (tmp_path / "functa.npz").exists()


def test_command_measures(grids, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compress, "SHOWN", 2)
    monkeypatch.setattr(compress, "STEPS", (64, 16))
    ends = {method: (found[0], found[-1]) for method, found in curves.QUALITIES.items()}
    monkeypatch.setattr(curves, "QUALITIES", ends)
    command("--run", grids, "--out", tmp_path, "--images", 12, "--training", 0)
    report = json.loads((tmp_path / "compress.json").read_text())
    methods = list(dict.fromkeys(row["method"] for row in report["rows"]))
    assert methods == ["latents", "PCA", "JPEG 4:4:4", "JPEG 2000", "WebP"]
    for row in report["rows"]:
        assert 0 < row["bits/pixel"] < row["bits/pixel, whole files"] and row["PSNR (dB)"] > 0
    rates = [row["bits/pixel"] for row in report["rows"]]
    assert all(low < high for low, high in zip(rates[::2], rates[1::2], strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {"compress.json", *report["figures"]}
    assert "The network weighs" in capsys.readouterr().out


@pytest.mark.slow
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
    monkeypatch.setattr(compress, "STEPS", (64,))
    monkeypatch.setattr(curves, "QUALITIES", {name: ends[:1] for name, ends in QUALITIES.items()})
    command("--run", run, "--data-dir", data, "--training", 0, "--step", 7)
    report = json.loads((run / "tasks" / "compress.json").read_text())
    methods = {row["method"] for row in report["rows"]}
    assert "WebP" in methods and not any("JPEG 4" in method for method in methods)
    said = capsys.readouterr().out
    assert "No JPEG 4:2:0: such a file is not for 4 channels." in said
    assert "--step has no effect without --pack" in said
    assert "20 test images by" in said


# ---- refusals ----


@pytest.mark.parametrize(
    "flags",
    [
        ("--images", 0),
        ("--training", -1),
        ("--step", 0),
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


def test_command_refuses_a_step_that_would_clip(vectors, capsys, tmp_path):
    np.save(tmp_path / "images.npy", datasets.load("digits").test.images[:3])
    flags = ("--pack", tmp_path / "images.npy", "--to", tmp_path / "out", "--training", 0)
    said = refusal(capsys, lambda: command("--run", vectors, *flags, "--step", 1e-4))
    assert "--step 0.0001 is too small for these images; at least" in said
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_damaged_file(vectors, capsys, tmp_path):
    (tmp_path / "x").write_bytes(codec.MAGIC + bytes(99))
    flags = ("--unpack", tmp_path / "x", "--to", tmp_path / "out.npy")
    assert "is damaged" in refusal(capsys, lambda: command("--run", vectors, *flags))
    assert not (tmp_path / "out.npy").exists()


def test_command_refuses_a_decoder_of_another_training(vectors, capsys, tmp_path):
    found = functa.load(vectors)
    params = {**found.params, "inner_rate": 2 * found.params["inner_rate"]}
    replace(found, params=params).save(tmp_path / "other.npz")
    flags = ("--decoder", tmp_path / "other.npz", "--images", 2, "--out", tmp_path / "out")
    assert "was not adapted from" in refusal(capsys, lambda: command("--run", vectors, *flags))


def test_command_refuses_a_decoder_of_other_settings(vectors, grids, capsys, tmp_path):
    flags = ("--decoder", grids / "functa.npz", "--images", 2, "--out", tmp_path / "out")
    assert "no decoder of" in refusal(capsys, lambda: command("--run", vectors, *flags))


def test_rows_of_pictures_are_at_nearly_one_rate():
    def curve(*rates):
        return [SimpleNamespace(bare=rate) for rate in rates]

    ours, near, far = curve(100, 220, 500), curve(90, 230, 700), curve(3000, 9000)
    found = [point.bare for point in compress.alike([ours, near, far])]
    assert found == [220, 230]  # no other two are as close, and the third is never near
