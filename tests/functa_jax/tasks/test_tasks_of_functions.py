"""Tasks on functions other than images: small volumes with an untrained functa."""

import json

import numpy as np
import pytest

from functa_jax.functa import Functa
from functa_jax.modalities import files
from functa_jax.model import siren
from functa_jax.tasks import classify, compress, drawing, generate, interpolate, retrieve, task
from functa_jax.tasks.__main__ import module_of
from functa_jax.tasks.compression import functions
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data.functions import Functions, FunctionSet, lattice_points
from groundfloor.runs import write_json

LATTICE = (3, 4, 5)
MODEL = siren.ModelConfig(
    1, width=8, depth=3, latent_dim=6, w0=5.0, rate_start=1.0, inputs=3, modality="functions"
)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A run on 90 volumes of three classes, that differ in where they are bright."""
    return untrained(tmp_path_factory.mktemp("volumes"), lattice_points(*LATTICE), LATTICE)


@pytest.fixture(scope="module")
def scattered(tmp_path_factory):
    """The same functions, each known at points of its own."""
    points = np.random.default_rng(1).random((90, 60, 3), np.float32)
    return untrained(tmp_path_factory.mktemp("scattered"), points, None)


def untrained(folder, coords, lattice):
    """The folder of a run on them, coords (N, 3) or (90, N, 3), with an untrained functa."""
    random, labels = np.random.default_rng(0), np.arange(90) % 3
    centres = np.eye(3)[labels] * 0.6 + 0.2 + 0.05 * random.standard_normal((90, 3))
    values = np.exp(-8 * ((coords - centres[:, None]) ** 2).sum(-1, keepdims=True))
    path = folder / "volumes.npz"
    np.savez(path, values=values.astype(np.float32), coords=coords, labels=labels)
    data, metadata = files.load(path), {"data": "volumes"}
    functa = Functa(
        MODEL,
        siren.init(MODEL, 0),
        lattice,
        metadata=metadata,
        coords=None if lattice is None else coords,
    )
    functa.save(folder / "functa.npz")
    write_json(folder / "config.json", {"dataset": str(path), "resolution": None, "images": None})
    exporter.export(functa, data, folder / "functaset.npz")
    return folder


def run(module, volumes, *flags):
    """The report of a task's command."""
    flags = ["--run", volumes, *flags]
    cli.run(module.main, module.Config, args=[str(flag) for flag in flags])
    report = json.loads((volumes / "tasks" / f"{module.__name__.split('.')[-1]}.json").read_text())
    for name in report["figures"]:
        assert (volumes / "tasks" / name).stat().st_size > 1000
    return report


def test_classify(volumes):
    report = run(classify, volumes, "--classifiers", "logistic regression")
    kinds = [row["features"] for row in report["rows"]]
    assert kinds == ["latents", "PCA", "whole PCA", "values"]
    assert all(row["test %"] == 100 for row in report["rows"] if row["features"] != "latents")


def test_functions_with_points_of_their_own_have_latents_alone(scattered):
    report = run(classify, scattered, "--classifiers", "logistic regression")
    assert [row["features"] for row in report["rows"]] == ["latents"]


@pytest.mark.slow
def test_neighbours_of_functions_with_points_of_their_own(scattered):
    report = run(retrieve, scattered)
    assert [row["features"] for row in report["rows"]] == ["latents"]
    assert "these functions have points of their own" in " ".join(report["remarks"])


def test_interpolate(volumes):
    report = run(interpolate, volumes, "--frames", 5, "--shown", 1)
    assert report["rows"][0]["between"] == "values, cross-fade"
    assert report["figures"] == ["interpolate_0.png"]  # volumes are no frames of a GIF


def test_compress(volumes):
    report = run(compress, volumes, "--training", 0)
    by_method = {}
    for row in report["rows"]:
        by_method.setdefault(row["method"], []).append(row)
    assert set(by_method) == {"latents", "PCA"}
    bits = [row["bits/function"] for row in by_method["PCA"]]
    quality = [row["PSNR (dB)"] for row in by_method["PCA"]]
    assert bits == sorted(bits) and quality == sorted(quality)
    assert report["figures"] == ["compress_rate.png", "compress_pictures.png"]


@pytest.mark.slow
def test_generate_and_retrieve(volumes):
    few = ["--prior-steps", 20, "--classifier-steps", 50, "--guidance", 0.0]
    report = run(generate, volumes, *few)
    assert report["rows"][0]["images"] == "train images"
    assert "generate_resolutions.png" not in report["figures"]
    report = run(retrieve, volumes)
    assert report["rows"][-1]["features"] == "values" and report["rows"][-1]["mAP"] > 0.9


def test_pulled_noise_has_the_second_moment_of_the_jacobian(volumes):
    import jax

    material = task.load(task.TaskConfig(volumes))
    functa, points = material.functa, material.data.train.coords
    root = np.sqrt(np.linspace(0.5, 1.5, len(points), dtype=np.float32))[:, None]
    latent = material.functaset.train.latents[:1]
    model = siren.with_params(functa.config, functa.params)
    jacobian = root * np.asarray(jax.jacfwd(lambda z: model.at(points, z))(latent[0]))[:, 0]
    grids = np.repeat(latent, 500, 0)[:, None, None]
    found = functions.pulled_noise(functa, points, root, grids).reshape(500, -1)
    moment, expected = found.T @ found / 500, jacobian.T @ jacobian
    assert np.abs(moment - expected).max() < 0.25 * np.abs(expected).max()


def test_films_of_solids_and_fields(volumes):
    material = task.load(task.TaskConfig(volumes))
    assert drawing.films(material.functa, np.zeros((1, 2, 60, 1))) is None
    assert drawing.as_points(material.functa, np.zeros((2, *LATTICE, 1))).shape == (2, 60, 1)


def refused(capsys, module, *args):
    """What a command says last: below it, reading tells what the file holds."""
    with pytest.raises(SystemExit) as stop:
        cli.run(module.main, module.Config, args=[str(arg) for arg in args])
    *_, said = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and said.startswith("error: ")
    return said


@pytest.mark.parametrize("name", ["inpaint", "superresolve", "denoise"])
def test_tasks_for_images_alone(name, volumes, capsys):
    assert "this task is for images" in refused(capsys, module_of(name), "--run", volumes)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--pack", "a.npy", "--to", "b"], "a.npy"),
        (["--unpack", "a.functa", "--to", "b"], "only images are unpacked"),
        (["--decoder", "a.npz"], "is not of images"),
    ],
)
def test_only_images_are_packed(flags, said, volumes, capsys):
    assert said in refused(capsys, compress, "--run", volumes, *flags)


def test_other_functions_are_not_augmented(volumes, capsys):
    assert "--augment 8" in refused(capsys, classify, "--run", volumes, "--augment", 8)


def test_the_judge_of_many_values_sees_their_principal_components(monkeypatch):
    monkeypatch.setattr(interpolate, "MOST_INPUTS", 20)
    random, labels = np.random.default_rng(0), np.arange(80) % 2
    rows = (labels[:, None] + 0.1 * random.standard_normal((80, 30))).astype(np.float32)
    split = Functions(rows[..., None], lattice_points(30), labels, np.arange(80))
    data = FunctionSet("lines", "functions", split, split, split, 2, "")
    model, accuracy = interpolate._classifier(data, rows, 0)
    assert accuracy > 0.8 and model.predict_proba(rows).shape == (80, 2)
    assert model[0].n_components_ == 30
