"""What the study trains, chooses and reports, and its command."""

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch

from common import cli, datasets, plots
from common.runs import read_json
from optim_torch import cells, insights, study
from optim_torch.models.conv_net import ConvNet
from tests.refusals import refusal

torch.set_num_threads(1)

TINY = dataclasses.replace(
    study.PRESETS["digits"],
    **{"layers": ("c4", "p", "r", "f8"), "images": 60, "steps": 6, "batch_size": 16},
    **{"rates": (1.0,), "seeds": (0, 1), "surface": 3, "device": "cpu", "axes": ("widths",)},
    **{"widths": (0.5,)},
)
BASE = study.base(TINY)


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
    monkeypatch.setattr("optim_torch.insights.ASCENT_STEPS", 2)


def run(folder, *words):
    words = ["tiny", *map(str, words), "--out", str(folder)]
    return cli.run(study.main, study.Config, {"tiny": TINY}, words)


def score(setting, seed):
    """A made-up validation accuracy: best at width 2, gelu, adamw with three times its rate."""
    value = 0.5 + 0.1 * (setting.width == 2) + 0.1 * (setting.activation == "gelu")
    value += 0.05 * (setting.optimizer == "adamw") + 0.05 * (setting.block == "bn")
    value -= 0.01 * abs(math.log(setting.rate / (3 if setting.optimizer == "adamw" else 1)))
    return {"val": value + 0.001 * seed, "parameters": 100, "seconds": 1, "setting": setting}


def test_the_study_tunes_rates_and_combines_the_best_of_each():
    config = dataclasses.replace(study.PRESETS["digits"], seeds=(0, 1, 2))
    asked = set()

    def trainer(setting, seed):
        asked.add((setting, seed))
        return score(setting, seed)

    table = study.study(config, trainer)
    assert len(asked) == study.count(config)
    first, last = table[0], table[-1]
    assert (first["axis"], first["setting"]) == ("base", study.base(config))
    assert last["axis"] == "combined"
    expected = {"width": 2.0, "activation": "gelu", "optimizer": "adamw", "block": "bn", "rate": 3}
    assert dataclasses.asdict(last["setting"]) == {
        "loss": config.loss, **expected
    }  # fmt: skip
    assert all(len(entry["rows"]) == 3 for entry in table)
    rates = {entry["setting"].optimizer: entry["setting"].rate for entry in table}
    assert rates == dict.fromkeys(cells.RATES, 1.0) | {"adamw": 3.0}
    # Each row changes one thing of the base.
    for entry in table[1:-1]:
        one = dataclasses.replace(first["setting"], rate=entry["setting"].rate)
        changed = dataclasses.replace(one, **{study.AXES[entry["axis"]]: entry["value"]})
        assert changed == entry["setting"]


def test_without_axes_the_base_alone_is_trained():
    config = dataclasses.replace(TINY, axes=())
    asked = []

    def trainer(setting, seed):
        asked.append((setting, seed))
        return score(setting, seed)

    assert len(study.study(config, trainer)) == 1
    assert set(asked) == {(BASE, 0), (BASE, 1)} and study.count(config) == 2


def test_the_command_goes_on_cell_by_cell_and_may_be_widened(tmp_path, monkeypatch):
    train, trained = cells.train, []

    def counted(config, setting, seed, *rest, evaluate=True, **options):
        if evaluate:
            trained.append((setting.width, seed))
            if len(trained) == 4:
                raise KeyboardInterrupt
        return train(config, setting, seed, *rest, evaluate=evaluate, **options)

    monkeypatch.setattr(cells, "train", counted)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit):
        run(folder)
    assert not (folder / "summary.json").exists()
    assert len(list((folder / "cells").glob("*.json"))) == 3
    summary = run(folder)
    assert trained == [(1.0, 0), (1.0, 1), (0.5, 0), (0.5, 1), (0.5, 1)]
    monkeypatch.setattr(insights, "look", lambda *_: {})
    run(folder, "--widths", 0.5, 2, "--seeds", 0, 1)
    assert trained[5:] == [(2.0, 0), (2.0, 1)]
    whole = run(tmp_path / "whole")
    for key in ("best", "test"):
        assert whole[key] == summary[key]
    values = [[row["axis"], row["value"], row["val"]] for row in summary["table"]]
    assert values == [[row["axis"], row["value"], row["val"]] for row in whole["table"]]
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["width"], row["seed"]) for row in rows] == [
        (width, seed) for width in ("1.0", "0.5", "2.0") for seed in "01"
    ]
    pictures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert pictures == {
        *("accuracy", "cost", "training", "filters", "maximisation", "surface"),
        *("confusion", "mistakes"),
    }
    best = max(summary["table"], key=lambda row: (row["val"]["mean"], -row["parameters"]))
    assert summary["best"]["value"] == best["value"]
    with pytest.raises(SystemExit):
        run(folder, "--steps", 7)


@pytest.mark.slow
def test_test_accuracy_is_that_of_the_saved_networks(tmp_path):
    summary = run(tmp_path / "run", "--axes")
    data = cells.on_device(datasets.load("digits", images=60, val_fraction=0.25), "cpu")
    shares = []
    for seed in (0, 1):
        path = tmp_path / "run" / "cells" / BASE.stem(seed)
        net = ConvNet(TINY.layers, (8, 8, 1))
        net.load_state_dict(torch.load(f"{path}.pt", weights_only=True))
        right = net.eval()(data.inputs(data.test.pixels)).argmax(1) == data.test.labels
        shares.append(right.float().mean().item())
        assert read_json(f"{path}.json")["seed"] == seed
    assert summary["test"]["base"]["mean"] == pytest.approx(np.mean(shares))
    assert np.sum(summary["insights"]["confusion"]) == len(data.test)


def test_networks_that_diverge_are_reported_and_not_chosen(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(cells.RATES, "sgd", 1e30)
    words = ("--block", "plain", "--axes")
    with pytest.raises(SystemExit):
        run(tmp_path / "all", *words, "--optimizer", "sgd")
    assert "every network diverged" in capsys.readouterr().err
    monkeypatch.setattr(insights, "look", lambda *_: {})
    summary = run(tmp_path / "some", *words, "optimizers", "--optimizers", "sgd", "--no-combine")
    good, bad = summary["table"]
    assert good["diverged"] == [] and len(bad["diverged"]) == 2
    assert bad["val"] == {"mean": 0.1, "std": 0}
    assert summary["best"]["axis"] == "base"
    assert "diverged by step" in capsys.readouterr().out


@pytest.mark.parametrize("name", study.PRESETS)
def test_presets_can_be_built(name):
    config = study.PRESETS[name]
    side, channels = (8, 1) if name == "digits" else (32, 3)
    for setting in (study.base(config), *(s for *_, s in study.variations(config))):
        cells.parsed_block(setting.block)
        ConvNet(config.layers, (side, side, channels), scale=setting.width / 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--layers c8 x9", "unknown layer 'x9'"),
        ("--layers c8 p p p p", "nothing left to pool"),
        ("--loss hinge", "unknown loss 'hinge'"),
        ("--losses cross-entropy+l3", "unknown regulariser 'l3'"),
        ("--blocks bn+shortcut", "unknown part 'shortcut'"),
        ("--activation swish", "swish"),
        ("--optimizers sgd lion", "lion"),
        ("--axes depths", "depths"),
        ("--rates 0", "must be above 0"),
        ("--widths -1", "must be above 0"),
        ("--val-fraction 0", "validation chooses"),
        ("--steps 1", "--steps"),
        ("--amp", "--amp needs a GPU"),
        ("--dataset nonsense", "nonsense"),
        ("--device nonsense", "--device nonsense"),
        ("--seeds -1", "--seeds"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(tmp_path, capsys, words, said):
    line = refusal(capsys, lambda: run(tmp_path / "run", *words.split()))
    assert said in line
    assert not (tmp_path / "run").exists()
