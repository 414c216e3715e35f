"""Single-image fits through their command line: grid, comparison, resuming, users' mistakes."""

import csv
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax import fit_images
from functa_jax.evaluation import reconstruction
from functa_jax.fit_images import PRESETS, Config
from functa_jax.functa import Functa, load
from functa_jax.model import siren
from functa_jax.single import comparison, fit_figures, fit_grid, sirens
from groundfloor import cli, plots, runs
from groundfloor.data import datasets
from groundfloor.data.functions import lattice_points
from groundfloor.runs import Stopping
from tests.refusals import refusal

REAL = Path(__file__).parents[2].parent / "shared" / "data"
GRID = ["--sizes", "4", "8", "--widths", "4", "--depths", "2", "3", "--steps", "4"]
ONE = ["--sizes", "4", "--widths", "4", "--depths", "2", "--steps", "2"]
DIGITS = ["--dataset", "digits", "--images", "5", "2"]
BESIDE = ["--compare-images", "6", "--compare-steps", "5"]
ALONE = ["--compare", "None"]
MODEL = siren.ModelConfig(channels=1, width=4, depth=3, latent_dim=12, w0=5.0)


def run(*args):
    cli.run(fit_images.main, Config, PRESETS, [str(arg) for arg in args])


@pytest.fixture(scope="session")
def functa(tmp_path_factory):
    """A run folder with an untrained network of digits."""
    folder = tmp_path_factory.mktemp("functa")
    params = jax.tree.map(np.asarray, siren.init(MODEL, 0))
    Functa(MODEL, params, (8, 8), metadata={"data": "digits"}).save(folder / "functa.npz")
    return folder


@pytest.fixture(scope="session")
def done(tmp_path_factory, functa):
    """A whole small run: (folder, what it takes)."""
    folder = tmp_path_factory.mktemp("done") / "run"
    args = ["photos", *DIGITS, *BESIDE, "--run", functa, "--seeds", "0", "1", "--out", folder]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plots.STYLE, "savefig.dpi", 30)
        patch.setattr(comparison, "FACTORS", (1, 4))
        patch.setattr(comparison, "RATES", (1e-2,))
        run(*args, *GRID)
    return folder, args


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


# ---- the grid ----


def test_results_are_those_of_the_networks_kept(done):
    folder, _ = done
    results = json.loads((folder / "results.json").read_text())
    assert [{k: str(v) for k, v in row.items()} for row in results] == rows(folder / "results.csv")
    assert len(results) == 2 * 1 * 2 * 2 * 2  # sizes, widths, depths, images, seeds
    images = datasets.load("digits").train.images[[5, 2]] / 255
    for row in results:
        depth, size = row["depth"], row["size"]
        shape = sirens.Shape(4, depth, 1, 30.0)
        with np.load(folder / "cells" / f"size{size}-width4-depth{depth}.npz") as cell:
            weights, spent = cell["weights"], cell["seconds"] / 4
        place = [(5, 0), (5, 1), (2, 0), (2, 1)].index((row["image"], row["seed"]))
        assert row["parameters"] == weights.shape[1] == row["bytes"] / 4
        assert row["seconds_per_image"] == spent
        blocks = images[place // 2].reshape(size, 8 // size, size, 8 // size, 1).mean(axis=(1, 3))
        shown = sirens.pictures(shape, weights[[place]], size, size)[0]
        psnr = -10 * np.log10(((shown - blocks) ** 2).mean())
        np.testing.assert_allclose(row["psnr"], psnr, atol=1e-3)


def test_means_are_over_images_and_spread_over_seeds():
    row = {"size": 8, "width": 4, "depth": 2, "parameters": 9, "bytes": 36}
    values = {(0, 0): 10.0, (0, 1): 14.0, (1, 0): 20.0, (1, 1): 20.0}  # (image, seed)
    table = [
        {**row, "image": i, "seed": s, "psnr": p, "seconds_per_image": 1.0}
        for (i, s), p in values.items()
    ]
    (mean,) = fit_grid.means_of(table)
    assert mean["psnr"] == 16 and mean["psnr_std"] == pytest.approx(np.sqrt(2))
    (mean,) = fit_grid.means_of(table[::2])
    assert mean["psnr"] == 15 and mean["psnr_std"] is None


def test_everything_is_drawn_and_summed_up(done):
    folder, _ = done
    names = "comparison comparison_images derivatives psnr_parameters psnr_steps"
    for name in [*names.split(), "superresolution", "zooms"]:
        assert (folder / "figures" / f"{name}.png").stat().st_size > 1000, name
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["size"] for row in summary["grid"]] == [4, 4, 8, 8]
    known = {(row["factor"], row["siren_psnr"] is None) for row in summary["enlarged"]}
    assert known == {(2, False), (4, True)}  # digits have no 16 pixels
    table = fit_images.table(summary)
    assert "± " in table and "digits, 6 test images" in table


@pytest.mark.slow
def test_a_killed_grid_goes_on_where_it_was(done, tmp_path, monkeypatch, capsys):
    folder, _ = done
    args = ["photos", *DIGITS, *ALONE, "--seeds", "0", "1", "--out", tmp_path / "run", *GRID]
    fit, made = sirens.fit, []

    def killed(*args, **settings):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(args)
        return fit(*args, **settings)

    monkeypatch.setattr(sirens, "fit", killed)
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 130
    kept = {path: path.read_bytes() for path in (tmp_path / "run" / "cells").iterdir()}
    assert len(kept) == 2
    monkeypatch.setattr(Stopping, "kept", None)
    with pytest.raises(SystemExit):  # again, before anything new is kept
        run(*args)
    assert Stopping.kept == f"2 finished cells in {tmp_path / 'run'}"
    monkeypatch.setattr(sirens, "fit", fit)
    capsys.readouterr()
    run(*args)
    assert "2 of 4 cells to fit" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in kept} == kept
    again, before = (
        json.loads((f / "results.json").read_text()) for f in (tmp_path / "run", folder)
    )
    for row, other in zip(again, before, strict=True):
        assert row.pop("seconds_per_image") > 0 and other.pop("seconds_per_image") > 0
        assert row == other

    run(*args)
    assert "is complete; nothing to do" in capsys.readouterr().out
    run(*args, "--depths", "3", "4", "--sizes", "8")
    assert "1 of 2 cells to fit" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in kept} == kept


def test_other_settings_in_the_same_folder_are_refused(done, capsys):
    _, args = done
    assert "rate 0.001 -> 0.5" in refusal(capsys, lambda: run(*args, *GRID, "--rate", "0.5"))


def test_a_damaged_cell_is_named(tmp_path, capsys):
    args = [*DIGITS, *ALONE, *ONE, "--out", tmp_path / "run"]
    path = tmp_path / "run" / "cells" / "size4-width4-depth2.npz"
    config = cli.parse(Config, PRESETS["photos"], [str(arg) for arg in args])
    identity = {key: getattr(config, key) for key in fit_images.IDENTITY}
    images = fit_images.load_images(config)[1]
    runs.Run(tmp_path / "run", {**identity, "compare_fingerprint": None}, data_fingerprint=images)
    path.parent.mkdir()
    path.write_bytes(b"PK")
    with pytest.raises(SystemExit):
        run("photos", *args)
    assert f"{path} is damaged" in capsys.readouterr().err


# ---- the comparison ----


@settings(max_examples=30)
@given(st.integers(1, 500), st.integers(2, 5), st.integers(1, 3))
def test_the_widest_network_is_the_widest(numbers, depth, channels):
    width = comparison.widest(numbers, depth, channels)
    assert width == 0 or sirens.Shape(width, depth, channels).parameters <= numbers
    assert sirens.Shape(width + 1, depth, channels).parameters > numbers


@pytest.mark.parametrize("numbers", [1, 8, 32, 256])
def test_networks_grow_and_the_first_have_no_more_numbers(numbers):
    groups = comparison.shapes_below(numbers, 1, 30.0)
    largest = [max(shape.parameters for shape in shapes) for shapes in groups]
    assert largest == sorted(largest)
    assert len(groups) > 1 or numbers == 1
    if numbers >= 8:
        assert max(shape.parameters for shape in groups[0]) <= numbers


def test_rows_are_what_the_functa_and_pca_give(done, functa):
    folder, _ = done
    found = rows(folder / "comparison.csv")
    data = datasets.load("digits")
    images = data.test.images[np.linspace(0, len(data.test) - 1, 6).astype(int)]

    network = fit_images.load_beside(Config(compare="digits", run=functa))[0]
    _, psnr = network.encode(images)
    row = found[0]
    assert (row["method"], row["numbers"], row["bytes"]) == ("functa", "12", "48")
    np.testing.assert_allclose(float(row["psnr"]), psnr.mean(), atol=1e-3)
    shared = sum(leaf.nbytes for leaf in jax.tree.leaves(network.params))
    assert int(row["shared_bytes"]) == shared

    pca = next(row for row in found if (row["method"], row["numbers"]) == ("PCA", "12"))
    expected = reconstruction.pca_psnr(reconstruction.pca(data.train.images, 12), images)
    np.testing.assert_allclose(float(pca["psnr"]), expected, atol=1e-3)

    by_kind = {row["compared"]: row for row in found if row["method"] == "SIREN"}
    assert set(by_kind) == {"equal numbers", "more numbers", "equal time"}
    assert int(by_kind["equal numbers"]["numbers"]) <= 12
    assert 12 < int(by_kind["more numbers"]["numbers"]) <= 48
    assert by_kind["equal numbers"]["steps"] == "5"
    assert int(by_kind["equal time"]["steps"]) >= 1


def test_pictures_are_as_good_as_their_rows_say(functa):
    data = datasets.load("digits")
    images = data.test.images[: comparison.PICTURES]
    found = comparison.Comparison(len(images), pictures={"original": images / np.float32(255)})
    numbers = comparison._functa(found, load(functa), images)
    comparison._pca(found, data.train.images, images, numbers, None)
    said = {row["method"]: row["psnr"] for row in found.rows if row["numbers"] == numbers}
    assert set(said) == {"functa", "PCA"}
    for method, psnr in said.items():
        errors = (found.pictures[f"{method}\n{numbers} numbers"] - images / 255) ** 2
        np.testing.assert_allclose(
            reconstruction.mean_psnr(errors.mean((1, 2, 3))), psnr, atol=1e-3
        )


def test_how_many_numbers_reach_the_functa():
    def row(compared, numbers, psnr):
        method = "functa" if compared == "shared weights" else "SIREN"
        return {"method": method, "compared": compared, "numbers": numbers, "psnr": psnr}

    table = [row("shared weights", 8, 20.0), row("equal numbers", 7, 15.0)]
    assert comparison.reached(table) is None
    more = [row("more numbers", 30, 25.0), row("more numbers", 20, 20.0)]
    assert comparison.reached([*table, row("equal time", 9, 30.0), *more]) == 20
    assert comparison.reached(more) is None


@pytest.mark.slow
def test_without_a_functa_the_rest_is_done_and_it_joins_later(
    functa, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparison, "FACTORS", (1,))
    monkeypatch.setattr(comparison, "RATES", (1e-2,))
    args = ["photos", *DIGITS, *BESIDE, *ONE, "--out", tmp_path / "run"]
    run(*args)
    assert "make one of digits with functa_jax.meta_train" in capsys.readouterr().out
    methods = [row["method"] for row in rows(tmp_path / "run" / "comparison.csv")]
    assert set(methods) == {"PCA", "SIREN"}
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "meta_train-digits").symlink_to(functa)
    run(*args)
    said = capsys.readouterr().out
    assert "0 of 1 cell to fit" in said and "functa, 3 steps" in said


@pytest.mark.slow
def test_pictures_of_colour_and_of_one_size(tmp_path):
    images = np.random.default_rng(0).random((1, 6, 9, 3), np.float32)
    shape = sirens.Shape(4, 2, 3)
    weights = sirens.init(shape, [0])
    found = fit_figures.superresolution(tmp_path / "a.png", images, images, shape, weights)
    assert [row["siren_psnr"] for row in found] == [None, None]
    assert (tmp_path / "a.png").stat().st_size > 1000


# ---- presets and mistakes ----


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_in_small(preset, tmp_path, capsys):
    needed = PRESETS[preset].dataset
    if needed != "photos" and not (REAL / "tfds" / needed).is_dir():
        pytest.skip(f"{needed} is not in ../shared/data/tfds")
    small = [*ONE, "--images", "1", "--data-dir", REAL, *ALONE, "--out", tmp_path / "run"]
    run(preset, *small)
    (row,) = json.loads((tmp_path / "run" / "summary.json").read_text())["grid"]
    assert row["psnr"] > 0
    assert "size  width  depth" in capsys.readouterr().out


def test_presets_are_valid():
    for name, config in PRESETS.items():
        assert config == Config(**vars(config)), name
    assert PRESETS["photos-full"].sizes[-1] == min(datasets.load("photos").train.images.shape[1:3])


MISTAKES = {
    "unknown preset": (["photo"], "did you mean photos"),
    "no width": (["--widths", "0"], "--widths 0: must be"),
    "one layer": (["--depths", "3", "1"], "--depths 1: must be in [2, 1000]"),
    "twice": (["--sizes", "8", "8"], "--sizes 8 8: give different numbers"),
    "no steps": (["--steps", "0"], "--steps 0: must be"),
    "no points": (["--points", "0"], "--points 0: must be"),
    "no rate": (["--rate", "nan"], "--rate nan: must be a finite number"),
    "a path": (["--name", "../x"], "--name ../x: must be a plain name"),
    "negative seed": (["--seeds", "-1"], "--seeds -1: must be"),
    "too large": (["--sizes", "428"], "--sizes 428: photos images have only 427 pixels"),
    "no such image": (["--images", "2"], "photos has 2 train images, counted from 0"),
    "no such set": (["--dataset", "faces"], "unknown data set 'faces'"),
    "not there": (["--compare", "kmnist"], "kmnist not found: looked for"),
    "no run": (["--run", "runs/none"], "runs/none does not exist: not a run of functa_jax"),
    "a run alone": ([*ALONE, "--run", "runs/none"], "needs --compare"),
    "nothing to test on": (
        ["--compare", "photos"],
        "--compare photos has no validation or test images",
    ),
}


@pytest.mark.parametrize("args, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(args, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUNCTA_DATA", str(tmp_path / "nothing"))
    assert message in refusal(capsys, lambda: run(*args))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["another command's", "another data set's", "sounds"])
def test_a_run_of_another_kind_is_refused(kind, functa, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    if kind == "another command's":
        (tmp_path / "other" / "config.json").write_text("{}")
        message = "not a run of functa_jax"
    elif kind == "sounds":
        model = dataclasses.replace(MODEL, inputs=1, modality="sound")
        params = jax.tree.map(np.asarray, siren.init(model, 0))
        points = lattice_points(20)
        Functa(model, params, (20,), coords=points).save(tmp_path / "other" / "functa.npz")
        message = "other is a functa of sound, not of images"
    else:
        params = jax.tree.map(np.asarray, siren.init(MODEL, 0))
        metadata = {"data": "mnist"}
        Functa(MODEL, params, (8, 8), metadata=metadata).save(tmp_path / "other" / "functa.npz")
        message = "other is a functa of mnist; give --compare mnist"
    assert message in refusal(capsys, lambda: run("photos", "--run", "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
