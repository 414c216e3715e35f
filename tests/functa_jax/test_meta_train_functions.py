"""Functions through the command lines: the whole job on one's own file, and users' mistakes."""

import json
from dataclasses import replace

import numpy as np
import pytest

import functa_jax
from functa_jax import compare, export, meta_train, view
from functa_jax.evaluation import classification
from functa_jax.functa import Functa
from functa_jax.meta_train import PRESETS, Config
from functa_jax.modalities import loading
from functa_jax.modalities.modality import refuse_outside
from functa_jax.tasks import denoise, inpaint, superresolve
from functa_jax.training import exporter, loop, starting
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.data.functions import Functions, FunctionSet, fingerprint, lattice_points
from tests.functa_jax.functas import fault

SMALL = [
    *("--width", "8", "--depth", "3", "--latent-dim", "3", "--steps", "4", "--w0", "5"),
    *("--batch-size", "4", "--eval-every", "2", "--dispatch", "2", "--warmup", "0"),
]
LATTICE = (3, 4)
GRIDS = {"logistic regression": {"C": (1.0,)}, "SVM": {"C": (10.0,), "gamma": (0.3,)}}


def run(*args):
    return cli.run(meta_train.main, Config, PRESETS, [str(arg) for arg in args])


def refused(capsys, command):
    """The last line of stderr, where a file that is read has its own."""
    with pytest.raises(SystemExit) as stop:
        command()
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def waves(count, seed):
    random = np.random.default_rng(seed)
    points = lattice_points(*LATTICE)
    labels = np.arange(count) % 2
    phase = random.uniform(0, 1, (count, 1)) + 1.5 * labels[:, None]
    return np.float32(0.5 + 0.3 * np.sin(3 * points.sum(-1) + phase)), labels


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A .npz file of functions on a lattice, with labels and splits."""
    arrays = {"coords": lattice_points(*LATTICE)}
    for seed, (part, count) in enumerate({"train": 24, "val": 8, "test": 8}.items()):
        arrays[f"{part}_values"], arrays[f"{part}_labels"] = waves(count, seed)
    path = tmp_path_factory.mktemp("data") / "waves.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def finished(file, tmp_path_factory):
    """(folder of a finished run, its summary)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classification, "GRIDS", GRIDS)
        patch.setattr(classification, "FOLDS", 2)
        out = tmp_path_factory.mktemp("runs") / "run"
        return out, run("digits", "--dataset", file, *SMALL, "--fit-points", 10, "--out", out)


def test_a_file_of_functions_does_the_whole_job(finished, file):
    out, summary = finished
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["modality"] == "functions" and summary["metric"] == "PSNR"
    assert list(summary["test_psnr_after_steps"]) == ["0", "1", "2", "3", "10"]
    assert summary["rivals"]["PCA"]["psnr"] == summary["pca_test_psnr"]
    assert set(summary["accuracy"]) == {"latents", "PCA", "values"}
    functa, functaset = functa_jax.load(out), functa_jax.load_functaset(out)
    assert functaset.metadata["checkpoint"] == functa.hash == summary["checkpoint"]
    assert functa.resolution == LATTICE and functa.fit_points == 10
    data = loading.functions(str(file))
    latents, psnr = functa.encode(data.test.values)
    np.testing.assert_allclose(latents, functaset.test.latents, atol=1e-6)
    np.testing.assert_allclose(psnr, functaset.test.psnr, atol=1e-4)
    values = functa.decode(latents).reshape(data.test.values.shape)
    errors = ((values - data.test.values) ** 2).mean((1, 2))
    assert summary["test_psnr"] == pytest.approx(np.mean(-10 * np.log10(errors)), abs=1e-3)
    for figure in ("reconstructions.png", "learning_curves.png"):
        assert (out / "figures" / figure).stat().st_size > 1000
    assert run("digits", "--dataset", file, *SMALL, "--fit-points", 10, "--out", out) == summary


def test_exports_and_transformers_know_functions(finished, file, tmp_path):
    out, _ = finished
    path = tmp_path / "again.npz"
    export.main(export.Config(run=out, out=path))
    again, first = functa_jax.load_functaset(path), functa_jax.load_functaset(out)
    np.testing.assert_array_equal(again.test.latents, first.test.latents)
    data = loading.functions(str(file))
    transformer = functa_jax.FunctaTransformer(out).fit(data.train.values)
    rows = transformer.transform(data.test.values.reshape(8, -1))
    np.testing.assert_allclose(rows, first.test.latents, atol=1e-6)
    assert transformer.inverse_transform(rows).shape == (8, *LATTICE, 1)


def test_functions_on_a_lattice_of_two_dimensions_are_viewed(finished, tmp_path):
    shown = view.main(view.Config(run=finished[0], out=tmp_path / "viewer.html"))
    assert shown["images"] == 8 and shown["originals"]


def test_two_runs_are_compared(finished, tmp_path):
    rows = compare.main(compare.Config((finished[0], finished[0]), tmp_path))
    assert rows[0]["PSNR (dB)"] == pytest.approx(finished[1]["test_metric"])


def test_what_is_for_images_alone_is_refused_in_one_line(finished, capsys, tmp_path):
    out, _ = finished
    for task in (inpaint, superresolve, denoise):
        assert "functions: this task is for images" in fault(task.main, task.Config(run=out))
    assert "makes images; this functa is of functions" in fault(functa_jax.torch_decoder, out)
    copies = export.Config(run=out, copies=2, out=tmp_path / "x.npz")
    assert "--copies 2: only images are augmented" in fault(export.main, copies)
    other = export.Config(run=out, dataset="digits", out=tmp_path / "x.npz")
    assert "was made for other functions, which digits has none of" in fault(export.main, other)


MISTAKES = {
    "cells": (["--grid", "2"], "--grid 2: cells are of images"),
    "too many points": (["--inner-points", "13"], "are known at only 12 points"),
    "points to fit": (["--fit-points", "13"], "are known at only 12 points"),
    "resolution": (["--resolution", "2"], "--resolution is for images"),
    "a large batch": (["--batch-size", "25"], "has only 24 train functions"),
}


@pytest.mark.parametrize("flags, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(flags, message, file, tmp_path, capsys):
    args = ["digits", "--dataset", file, *SMALL, *flags, "--out", tmp_path / "run"]
    assert message in refused(capsys, lambda: run(*args))
    assert not (tmp_path / "run").exists()


def test_a_ball_that_no_ray_meets_is_refused():
    rays = np.float32([[0.3, 0, 1.3, 0, 0, -1]] * 4)
    values, numbers = np.zeros((6, 4, 3), np.uint8), np.arange(6)
    split = Functions(values, rays, numbers % 2, numbers)
    data = FunctionSet("made up", "scenes", split, split, split, 2, "", (4, 1, 1))
    said = fault(meta_train._check_data, Config(batch_size=4, ball=0.2), data)
    assert said == "--ball 0.2: no ray of made up meets it"
    meta_train._check_data(Config(batch_size=4, ball=0.4), data)
    said = fault(meta_train._check_data, Config(batch_size=4, ball=2.0), data)
    assert said == "--ball 2: a camera of made up is inside, 1.33417 from the origin"


@pytest.mark.parametrize("name", ["inner_points", "outer_points", "fit_points"])
def test_points_are_not_drawn_where_each_function_has_its_own(name):
    data = occupancies()
    masked = replace(data.train, mask=np.arange(8) < 3 + np.arange(6)[:, None])
    config = replace(Config(batch_size=4), **{name: 2})
    said = fault(meta_train._check_data, config, replace(data, train=masked))
    assert said.startswith(f"--{name.replace('_', '-')} 2: the same points are drawn for all")


def test_files_of_other_units_are_scaled_as_those_of_training(tmp_path):
    coords = lattice_points(*LATTICE)

    def saved(name, low, high):
        values = np.linspace(low, high, 40 * 12).reshape(40, 12)
        np.savez(tmp_path / name, coords=coords, values=values)
        return loading.functions(str(tmp_path / name))

    data, other = saved("a.npz", -100, 300), saved("b.npz", -50, 50)
    assert other.scale == (-50, 0.01)
    run = loop.train(Config(batch_size=4, steps=1, width=4, depth=2, latent_dim=2), data, None)
    found = exporter.data_of(run[0], tmp_path, name=str(tmp_path / "b.npz"))
    values = np.concatenate([split.values for split in (found.train, found.val, found.test)])
    np.testing.assert_allclose([values.min(), values.max()], [50 / 400, 150 / 400], atol=1e-6)
    saved("far.npz", 0, 5000)
    said = fault(exporter.data_of, run[0], tmp_path, name=str(tmp_path / "far.npz"))
    assert "scaled as those of training, go from" in said
    assert exporter.data_of(run[0], tmp_path).fingerprint == data.fingerprint


def test_points_outside_the_unit_cube_are_refused(tmp_path):
    functa = Functa(loop.model_config(Config(), occupancies()), {}, (2, 2, 2))
    data = occupancies()
    loading.refuse_other_kind(functa, tmp_path, data)
    far = replace(data.test, coords=31 * data.test.coords)
    said = fault(loading.refuse_other_kind, functa, tmp_path, replace(data, test=far))
    assert said == "points of made up are 7.75 to 23.25; points lie in [0, 1]^3"


@pytest.mark.parametrize(
    "modality, points, said",
    [
        ("voxels", [[0.5, 0.5, 1.1]], "coords are 0.5 to 1.1; points lie in [0, 1]^3"),
        ("sphere", [[0.6, 0.8, 0], [0, 0, 0.5]], "have lengths of 0.5 to 1; they are unit vectors"),
        ("sound", [[-3.0], [2.0]], "coords are -3 to 2; points lie in [-2, 2]^1"),
    ],
)
def test_points_where_nothing_was_learnt_are_refused(modality, points, said):
    points = np.array(points, np.float32)
    seen = np.array([[-2], [2]], np.float32) if modality == "sound" else None
    assert said in fault(refuse_outside, modality, points, "coords", seen)
    refuse_outside(modality, points[:0], "coords", seen)
    refuse_outside(modality, points[:1] if modality == "sphere" else points / 3, "coords", seen)
    refuse_outside("functions", points, "coords", seen)


def occupancies(modality="voxels", sides=(2, 2, 2)):
    """A tiny FunctionSet of zeros and ones."""
    values = np.random.default_rng(0).integers(0, 2, (6, np.prod(sides), 1)).astype(np.uint8) * 255
    numbers = np.arange(6)
    split = Functions(values, lattice_points(*sides), numbers % 2, numbers)
    return FunctionSet("made up", modality, split, split, split, 2, fingerprint(split), sides)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"grid": 2}, "--grid 2: cells are of images"),
        ({"update": "gauss_newton"}, "--update gauss_newton: a Gauss-Newton step is of squared"),
        (
            {"decoder": "refined_pca", **meta_train.REFINED_PCA},
            "--decoder refined_pca: its pictures",
        ),
    ],
)
def test_what_occupancies_cannot_have_is_refused(settings, said):
    config = replace(Config(batch_size=4), **settings)
    assert said in fault(meta_train._check_data, config, occupancies())
    meta_train._check_data(Config(batch_size=4), occupancies())


def test_weights_of_other_dimensions_are_refused(finished):
    model = loop.model_config(Config(), occupancies())
    assert "it has inputs 2, this run 3" in fault(starting.weights_of, finished[0], model)


def test_names_and_paths_of_functions_are_told_from_those_of_images(tmp_path, file):
    assert loading.is_of_functions("voxels") and loading.is_of_functions(str(file))
    images = tmp_path / "images.npz"
    np.savez(images, images=np.zeros((3, 2, 2), np.uint8))
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 no zip")
    (tmp_path / "volumes").mkdir()
    (tmp_path / "pictures").mkdir()
    np.save(tmp_path / "volumes" / "a.npy", np.zeros((2, 2, 2)))
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    assert loading.is_of_functions(str(tmp_path / "volumes"))
    np.save(tmp_path / "pictures" / "embeddings.npy", np.zeros(3))  # beside, as in images' folders
    (tmp_path / "pictures" / ".cache").mkdir()
    for number in range(3):
        np.save(tmp_path / "pictures" / ".cache" / f"{number}.npy", np.zeros(3))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "class").symlink_to(tmp_path / "volumes")
    assert loading.is_of_functions(str(tmp_path / "linked"))
    for other in ("digits", images, tmp_path / "broken.npz", tmp_path / "pictures", "no/such"):
        assert not loading.is_of_functions(str(other))
    assert isinstance(loading.load(Config(images=4)), datasets.Dataset)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["voxels", "sphere", "sound", "video"])
def test_every_preset_of_functions_does_the_whole_job(preset, tmp_path, monkeypatch):
    monkeypatch.setattr(classification, "GRIDS", GRIDS)
    monkeypatch.setattr(classification, "FOLDS", 2)
    monkeypatch.setenv("FUNCTA_DATA", str(tmp_path / "nothing"))  # video has digits, then
    flags = ["--images", "40", "--inner-points", "50", "--outer-points", "50", "--fit-points", "60"]
    summary = run(preset, *SMALL, *flags, "--out", tmp_path / "run")
    assert summary["modality"] == preset and "PCA" in summary["rivals"]
    assert np.isfinite(summary["test_metric"])
    assert (tmp_path / "run" / "figures" / "reconstructions.png").stat().st_size > 1000


def test_functions_are_not_streamed_which_is_said(file, capsys):
    config = Config(dataset=str(file), resident="no", workers=2)
    meta_train._say_what_has_no_effect(config, loading.functions(str(file)))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["--resident", "--workers"]
