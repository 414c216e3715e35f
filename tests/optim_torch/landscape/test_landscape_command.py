"""The landscape's command and the course's functions: tables, pictures, mistakes."""

import dataclasses
import json

import numpy as np
import pytest

from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.pytorch import autocast
from optim_torch import course
from optim_torch.landscape import __main__ as landscape
from optim_torch.landscape import bands, figures, recording, traces
from optim_torch.landscape.settings import load_data
from tests import tfds
from tests.optim_torch.landscape.tiny import TINY
from tests.refusals import refusal


def run(folder, *words):
    words = ["tiny", *map(str, words), "--out", str(folder)]
    return cli.run(landscape.main, landscape.Config, {"tiny": TINY}, words)


@pytest.mark.slow
def test_runs_apart_band_together_if_they_are_of_one_kind(tmp_path):
    """Each normaliser's first seed, which need not be the same."""
    run(tmp_path / "plain", "--norms", "none", "--steps", 12)
    run(tmp_path / "batch", "--norms", "batch", "--steps", 12, "--seeds", 1)
    run(tmp_path / "longer", "--norms", "l1", "--steps", 13)
    both = [tmp_path / "plain", tmp_path / "batch"]
    _, numbers = course.VGG_Loss_Landscape(both, tmp_path / "a.png", diverged=True)
    for folder in both:
        (norm,) = {spec.norm for spec in bands.load(folder)}
        losses = [trace["loss"] for trace in bands.load(folder).values()]
        assert np.array_equal(numbers[norm][1], np.minimum(*losses))
    with pytest.raises(UserError, match="steps 13 instead of 12"):
        course.VGG_Loss_Landscape([*both, tmp_path / "longer"], tmp_path / "b.png")


def test_a_choice_of_precision_is_kept_and_said(tmp_path, monkeypatch):
    seconds = {"float32": 3, "bfloat16": 2}
    monkeypatch.setattr(autocast, "_seconds", lambda *given: seconds[given[-1]])
    losses = {}
    for asked in ("auto", "bfloat16", "float32"):
        words = ("--norms", "none", "--rates", 0.05, "--precision", asked)
        summary = run(tmp_path / asked, *words)
        assert summary["precision"] == ("float32" if asked == "float32" else "bfloat16")
        assert summary["precision_seconds"] == (seconds if asked == "auto" else None)
        (trace,) = bands.load(tmp_path / asked).values()
        losses[asked] = trace["loss"]
    assert np.array_equal(losses["auto"], losses["bfloat16"])
    assert not np.array_equal(losses["auto"], losses["float32"])
    np.testing.assert_allclose(losses["auto"], losses["float32"], rtol=0.05)


def test_networks_of_several_machines_are_one_landscape(tmp_path, capsys, monkeypatch):
    words = ("--rates", 0.1, "--seeds", 0, "--norms")
    whole = run(tmp_path / "whole", *words, "batch", "l1")
    for number, norm in enumerate(("batch", "l1")):
        run(tmp_path / f"machine{number}", *words, norm)
    both = ("--join", tmp_path / "machine0", tmp_path / "machine1")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path / "longer", *words, "batch", "--steps", 8, *both)
    said = capsys.readouterr().err
    assert "machine0 cannot be joined: it has other settings (steps 6 -> 8)" in said
    monkeypatch.setattr(traces, "Recording", None)  # nothing is trained
    joined = run(tmp_path / "joined", *words, "batch", "l1", *both)
    assert joined["table"] == whole["table"] and len(joined["table"]) == 2
    taken = [part for one in joined["joined"][1:] for part in one["parts"]]
    assert taken == [f"traces/{norm}-r0.1-s0" for norm in ("batch", "l1")]


def test_curvature_is_reported_as_shares_of_the_edge_and_times_the_square(tmp_path):
    words = ("--curvature", 16, "--rates", 0.05, "--norms", "batch")
    run(tmp_path, *words, "--steps", 8)
    ((spec, trace),) = bands.load(tmp_path).items()
    (row,) = bands.summary({spec: trace})
    later = {name: trace[f"here_{name}"][2:] for name in ("largest", "sharpness", "square")}
    assert row["edges"]["largest"] == pytest.approx(np.median(later["largest"]) * 0.05 / 2)
    assert row["edges"]["sharpness"] == pytest.approx(np.median(later["sharpness"]) * 0.05 / 2)
    assert row["times_square"] == pytest.approx(np.median(later["largest"] * later["square"]))
    assert row["growth"] == pytest.approx(np.median(later["square"]) / trace["here_square"][0])
    figures.edge(tmp_path / "edge.png", {spec: trace})
    assert (tmp_path / "edge.png").exists()


def test_the_courses_functions_band_models_and_the_papers_lengths(tmp_path):
    run(tmp_path, "--norms", "batch", "--steps", 12)
    found = bands.load(tmp_path)
    one, two = found.values()
    _, numbers = course.VGG_Loss_Landscape(tmp_path, tmp_path / "a.png")
    _, low, high = numbers["batch"]
    assert np.array_equal(low, np.minimum(one["loss"], two["loss"]))
    assert np.array_equal(high, np.maximum(one["loss"], two["loss"]))
    _, numbers = course.VGG_Beta_Smooth(str(tmp_path), tmp_path / "b.png")
    ratios = [trace["change"] / trace["moved"] for trace in (one, two)]
    np.testing.assert_array_equal(numbers["batch"][2][1:], np.maximum(*ratios)[1:])
    _, numbers = course.VGG_Grad_Pred([tmp_path], tmp_path / "c.png", "line")
    step, low, _ = numbers["batch"]
    at_the_rate = [trace["point_change"][:, 1] for trace in (one, two)]  # lengths 0.5, 1, 2, 4
    assert np.array_equal(low, np.minimum(*at_the_rate)) and step.tolist() == [*range(0, 12, 2)]
    for function in (course.VGG_Grad_Pred, course.VGG_Beta_Smooth):  # before anything is trained
        with pytest.raises(ValueError, match='"steps" or "line"'):
            function(None, tmp_path / "d.png", "other", out=tmp_path / "no")
    with pytest.raises(UserError, match="read already"):
        course.VGG_Loss_Landscape([tmp_path, tmp_path], tmp_path / "d.png")
    assert not (tmp_path / "no").exists() and not (tmp_path / "d.png").exists()
    local = bands.local(one)
    assert np.array_equal(local["loss_high"], one["point_loss"].max(1))
    assert np.array_equal(local["beta_most"], one["point_beta"].max(1))


def test_the_courses_functions_train_for_themselves_once(tmp_path, monkeypatch):
    fields = ("dataset", "model", "scale", "batch_size", "n_items", "steps", "probe_every")
    settings = {name: getattr(TINY, name) for name in fields}
    settings |= {"rates": (0.001, 0.002), "device": "cpu", "out": tmp_path / "run"}
    _, numbers = course.VGG_Loss_Landscape(None, tmp_path / "a.png", diverged=True, **settings)
    assert set(numbers) == {"none", "batch"}
    losses = [t["loss"] for s, t in bands.load(tmp_path / "run").items() if s.norm == "none"]
    assert np.array_equal(numbers["none"][2], np.maximum(*losses))
    monkeypatch.setattr(recording.Recording, "advance", None)  # nothing is trained twice
    course.VGG_Grad_Pred(None, tmp_path / "b.png", **settings)
    with pytest.raises(UserError, match="other settings"):
        course.VGG_Beta_Smooth(None, tmp_path / "c.png", **{**settings, "steps": 7})
    with pytest.raises(UserError, match="only for training"):
        course.VGG_Grad_Pred(tmp_path / "run", tmp_path / "d.png", steps=7)


def test_the_command_measures_and_draws(tmp_path, capsys):
    summary = run(tmp_path / "run", "--seeds", 0, 1)
    assert [(row["norm"], row["rate"], row["seeds"]) for row in summary["table"]] == [
        (norm, rate, 2) for norm in ("none", "batch") for rate in (0.05, 0.1)
    ]
    names = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert names == {
        *("landscape", "rates"),
        *("VGG_Loss_Landscape", "VGG_Grad_Pred", "VGG_Beta_Smooth"),
    }
    assert 0 < summary["probe_seconds"] < summary["seconds"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert "±" in capsys.readouterr().out
    words = ("--norms", "none", "l1", "--rates", 0.1, "--lengths", 2)
    (plain, _) = run(tmp_path / "one", *words, "--val-fraction", 0)["table"]
    assert plain["val"] is None and plain["test"]["std"] is None and len(plain["beta"]) == 1
    assert f"{100 * plain['test']['mean']:.2f} %" in (said := capsys.readouterr().out)
    assert "±" not in said  # of one seed there is none
    assert (tmp_path / "one" / "figures" / "landscape.png").exists()


def test_a_rate_at_which_seeds_diverge_is_said_and_not_counted(tmp_path, capsys):
    summary = run(tmp_path, "--norms", "none", "--rates", 3, 0.1, "--steps", 40)
    dead, good = summary["table"]
    assert (dead["diverged"], dead["test"], good["diverged"]) == (1, None, 0)
    assert "none at rate 3: it diverged or ended at chance" in capsys.readouterr().out


def test_other_images_under_the_same_name_are_refused(tmp_path, capsys):
    """The newest version of a set is what is read."""
    words = ("--dataset", "chg", "--data-dir", tmp_path, "--n-items", -1, "--scale", 0.1)
    small = {"steps": 2, "scale": 0.1, "device": "cpu", "batch_size": 16, "out": tmp_path / "own"}
    small |= {"dataset": "chg", "data_dir": tmp_path, "norms": ("none",), "rates": (0.1,)}
    for version, seed in (("1.0.0", 0), ("1.0.1", 1)):
        pictures = tfds.pictures(60, seed=seed)
        rows = tfds.rows_of(pictures, np.arange(60) % 2)
        tfds.write_tfds(
            tmp_path, "chg", {"train": rows, "test": rows}, num_classes=2, version=version
        )
        if version == "1.0.0":
            run(tmp_path / "run", *words)
            course.VGG_Loss_Landscape(None, tmp_path / "a.png", **small)
            capsys.readouterr()
    assert "other images" in refusal(capsys, lambda: run(tmp_path / "run", *words))
    with pytest.raises(UserError, match="other images"):
        course.VGG_Loss_Landscape(None, tmp_path / "b.png", **small)


def test_a_subset_has_as_many_of_each_class():
    data_set = load_data(dataclasses.replace(TINY, n_items=200))
    counts = np.bincount(data_set.train.labels)
    assert counts.sum() == 200 and counts.max() - counts.min() <= 2
    assert len(data_set.test) == len(load_data(TINY).test) > 300


@pytest.fixture(scope="module")
def odd_data(tmp_path_factory):
    """Sets that these networks cannot be trained on."""
    folder = tmp_path_factory.mktemp("odd")
    pictures = tfds.pictures(40)
    tfds.write_tfds(folder, "nolabel", {"train": tfds.rows_of(pictures)})
    rows = tfds.rows_of(pictures[:, :6], np.arange(40) % 2)
    tfds.write_tfds(folder, "wide", {"train": rows}, num_classes=2, shape=(6, 8, 3))
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--norms batchnorm", "unknown norm"),
        ("--rates 0", "--rates 0.0: must be above 0"),
        ("--rates nan", "--rates nan: must be a finite number"),
        ("--rates 1e200", "--rates 1e+200: at length 1 it is beyond"),
        ("--rates 1e-30 --lengths 1e-30", "at length 1e-30 it is beyond"),
        ("--rates 0.1 0.1", "--rates 0.1 0.1: names one twice"),
        ("--seeds 1 1", "names one twice"),
        ("--seeds -1", "--seeds -1"),
        ("--seeds 99999999999999999999", "--seeds"),
        ("--lengths -1", "--lengths -1.0: must be above 0"),
        ("--lengths nan", "--lengths nan"),
        ("--lengths inf", "--lengths inf"),
        ("--scale nan", "--scale nan"),
        ("--scale 1e9", "--scale"),
        ("--model VGG_B", "VGG_B"),
        ("--model VGG_A_BatchNorm", "VGG_A_BatchNorm"),  # VGG_A --norms batch
        ("--steps 0", "--steps 0"),
        ("--probe-every 0", "--probe-every 0"),
        ("--batch-size 1", "--batch-size 1: normalisers need at least 2 images"),
        ("--batch-size 2000 --n-items -1", "--batch-size 2000: digits has only 1,293 train images"),
        ("--n-items 5", "--n-items 5: must be"),
        ("--n-items 5000", "--n-items 5000: digits has only 1,293 train images"),
        ("--n-items 1292", "--n-items 1292: cannot take"),
        ("--val-fraction 1", "--val-fraction 1.0"),
        ("--name ../x", "--name ../x: must be a plain name"),
        ("--dataset nonsense", "nonsense"),
        ("--dataset nolabel", "nolabel has no labels"),
        ("--dataset wide", "6x8"),
        ("--dataset photos", "photos has no labels"),
        ("--device nonsense", "--device nonsense"),
        ("--device meta", "--device meta"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(
    tmp_path, odd_data, capsys, monkeypatch, words, said
):
    monkeypatch.setenv("FUNCTA_DATA", str(odd_data))
    line = refusal(capsys, lambda: run(tmp_path / "run", *words.split()))
    assert said in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "VGG_A_BatchNorm"},
        {"optimizer": "lion"},
        {"direction": "up"},
        {"rates": 0.1},
        {"norms": "batch"},
        {"rates": ()},
        {"steps": 0},
    ],
)
def test_impossible_settings_in_a_notebook_are_value_errors(tmp_path, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        course.VGG_Loss_Landscape(None, tmp_path / "a.png", out=tmp_path / "run", **settings)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_traces_is_refused(tmp_path):
    with pytest.raises(UserError, match="no traces"):
        bands.load(tmp_path)
