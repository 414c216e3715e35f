"""The command classify: its table, what it says, what it refuses."""

import itertools
import json
from dataclasses import replace

import pytest

from functa_jax.evaluation import classification
from functa_jax.tasks import classify, task
from groundfloor import cli
from groundfloor.data import datasets
from tests.functa_jax.tasks.conftest import IMAGES
from tests.refusals import refusal

TINY = "--steps 4 --search-steps 2 --batch 8 --mlp-width 8 --width 8 --heads 2 --blocks 2 "
TINY += "--channels 4"


def command(*args):
    cli.run(classify.main, classify.Config, args=[*map(str, args), *TINY.split()])


def report(folder, name="classify"):
    assert (folder / f"{name}.png").stat().st_size > 10_000
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.slow
def test_command_on_vectors(vectors, tmp_path, capsys, monkeypatch):
    few = {"logistic regression": {"C": (1.0,)}, "SVM": {"C": (1.0, 10.0), "gamma": (1.0,)}}
    monkeypatch.setattr(classification, "GRIDS", few)
    monkeypatch.setattr(classification, "FOLDS", 2)
    command("--run", vectors, "--out", tmp_path, "--augment", 20)
    found = report(tmp_path)
    rows = {(r["features"], r["classifier"]): r for r in found["rows"]}
    kinds = ("latents", "PCA", "whole PCA", "pixels")
    shared = itertools.product(kinds, ("logistic regression", "SVM", "MLP"))
    assert set(rows) == {*shared, ("pixels", "ConvNet")}
    # As many components as images.
    for kind, numbers in (("latents", 6), ("PCA", 6), ("whole PCA", IMAGES), ("pixels", 64)):
        mine = [r for key, r in rows.items() if key[0] == kind]
        assert {r["numbers"] for r in mine} == {numbers}
        (chosen,) = [r for r in mine if r["chosen"]]
        assert chosen["unseen %"] == max(r["unseen %"] for r in mine)
        if kind == "latents":
            assert chosen["p"] == 1
    for r in rows.values():
        assert 0 <= r["low"] <= r["test %"] <= r["high"] <= 100
        right = r["test %"] * IMAGES / 100
        assert right == pytest.approx(round(right), abs=1e-6) and 0 < r["p"] <= 1
        # Trained on train and validation in the end.
        assert r["examples"] == 2 * IMAGES and r["unseen %"] <= 100
    said = capsys.readouterr().out
    assert "transformer and ConvNet need a grid of latents" in said
    assert "20 fitted as training went" in said and "One seed (0)" in said
    assert "2-fold cross-validation on the 120 images of train and validation" in said
    for flag in ("--width", "--heads", "--blocks"):
        assert f"{flag} has no effect as no transformer is trained" in said


@pytest.mark.slow
def test_command_on_a_grid_with_copies(grids, tmp_path, capsys):
    command("--run", grids, "--out", tmp_path, "--classifiers", "transformer", "ConvNet")
    rows = report(tmp_path)["rows"]
    found = {(r["features"], r["classifier"], r["numbers"], r["examples"]) for r in rows}
    assert found == {
        ("latents", "transformer", 24, 3 * IMAGES),  # train, its copies and validation
        ("latents", "ConvNet", 24, 3 * IMAGES),
        ("pixels", "ConvNet", 64, 2 * IMAGES),
    }
    assert "1 augmented copies of each image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--classifiers", "transformer"], "transformer needs a grid of latents"),
        (["--classifiers", "forest"], "forest"),
        (["--noise", "-1"], "--noise -1.0: must be at least 0"),
        (["--smoothing", "1"], "--smoothing 1.0: must be in [0, 1)"),
        (["--rows", "0"], "--rows 0: must be in [2,"),
        (["--heads", "3"], "--heads 3: must divide --width 8"),
        (["--rate", "nan"], "--rate nan: must be a finite number"),
        (["--augment", "5", "--pad", "8"], "--pad 8: images of digits have only 8 pixels"),
        (["--flip", "True"], "--flip True: needs --augment"),
        (["--mixup", "-1"], "--mixup -1.0: must be at least 0"),
    ],
)
def test_mistakes_end_in_one_line(vectors, tmp_path, capsys, flags, said):
    args = ["--run", vectors, "--out", tmp_path / "out", *TINY.split(), *flags]
    line = refusal(capsys, lambda: cli.run(classify.main, classify.Config, args=[*map(str, args)]))
    assert said in line and not (tmp_path / "out").exists()


def test_what_has_one_class_is_refused(vectors, tmp_path, capsys, monkeypatch):
    data = datasets.load("digits", images=IMAGES)
    for split in (data.train, data.val, data.test):
        split.labels[:] = 3
    config = classify.Config(run=vectors, out=tmp_path / "out")
    material = replace(task.load(config), data=data)
    monkeypatch.setattr(task, "load", lambda config: material)
    said = refusal(capsys, lambda: command("--run", vectors, "--out", tmp_path / "out"))
    assert "nothing to classify: digits has 1 class in train" in said
    assert not (tmp_path / "out").exists()


def test_a_functaset_of_another_model_is_refused(vectors, grids, tmp_path, capsys):
    args = ["--run", vectors, "--functaset", grids, "--out", tmp_path / "out"]
    assert "another functa" in refusal(capsys, lambda: command(*args))
    args = ["--run", tmp_path / "none"]
    assert "does not exist" in refusal(capsys, lambda: command(*args))
