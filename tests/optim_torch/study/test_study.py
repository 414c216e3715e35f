"""What the study trains, chooses and reports, and its command."""

import csv
import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundfloor import cli, plots
from groundfloor.data import datasets
from groundfloor.runs import Stopping, read_json
from optim_torch.models.conv_net import ConvNet
from optim_torch.study import __main__ as study
from optim_torch.study import figures, insights, report, search, trials
from tests.refusals import refusal

torch.set_num_threads(1)

TINY = dataclasses.replace(
    study.PRESETS["digits"],
    **{"layers": ("c4", "p", "r", "f8"), "images": 60, "steps": 6, "batch_size": 16},
    **{"rates": (1.0,), "seeds": (0, 1), "surface": 3, "device": "cpu", "axes": ("widths",)},
    **{"widths": (0.5,)},
)
BASE = search.base(TINY)


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
    monkeypatch.setattr("optim_torch.study.insights.ASCENT_STEPS", 2)


def run(folder, *words):
    words = ["tiny", *map(str, words), "--out", str(folder)]
    return cli.run(study.main, study.Config, {"tiny": TINY}, words)


def usual(setting):
    """The rate at which a setting is best: the plain network and adamw want others."""
    return 0.1 if setting.block == "plain" else 3 if setting.optimizer == "adamw" else 1


def score(setting, seed):
    """A made-up validation accuracy: best at width 2, gelu, adamw, bn, each at its own rate."""
    value = 0.5 + 0.1 * (setting.width == 2) + 0.1 * (setting.activation == "gelu")
    value += 0.05 * (setting.optimizer == "adamw") + 0.05 * (setting.block == "bn")
    value -= 0.01 * abs(math.log(setting.rate / usual(setting)))
    return {"val": value + 0.001 * seed, "parameters": 100, "seconds": 1, "setting": setting}


def test_the_study_tunes_every_setting_and_combines_the_best_of_each():
    config = dataclasses.replace(study.PRESETS["digits"], seeds=(0, 1, 2))
    asked = set()

    def trainer(setting, seed):
        asked.add((setting, seed))
        return score(setting, seed)

    table = search.study(config, trainer)
    assert len(asked) <= search.most_trials(config)
    first, last = table[0], table[-1]
    assert (first["axis"], first["setting"]) == ("base", search.base(config))
    assert last["axis"] == "combined"
    expected = {"width": 2.0, "activation": "gelu", "optimizer": "adamw", "block": "bn", "rate": 3}
    assert dataclasses.asdict(last["setting"]) == {
        "loss": config.loss, **expected
    }  # fmt: skip
    assert all(len(entry["rows"]) == 3 and not entry["at_end"] for entry in table)
    for entry in table:
        setting = entry["setting"]
        assert setting.rate == usual(setting)
        tried = {asked.rate for asked, seed in asked if dataclasses.replace(asked, rate=1) ==
                 dataclasses.replace(setting, rate=1) and seed == 0}  # fmt: skip
        assert min(tried) < setting.rate < max(tried)
    # Each row changes one thing of the base.
    for entry in table[1:-1]:
        one = dataclasses.replace(first["setting"], rate=entry["setting"].rate)
        changed = dataclasses.replace(one, **{search.AXES[entry["axis"]]: entry["value"]})
        assert changed == entry["setting"]


@given(
    st.lists(st.sampled_from([0.1, 0.3, 1.0, 3.0, 10.0]), min_size=1, max_size=4, unique=True),
    st.floats(-6, 6),
    st.floats(0, 6),
)
def test_a_search_ends_at_the_best_rate_or_says_that_it_is_at_the_end(rates, peak, highest):
    """Accuracy falls with the distance of log rate from the peak; above `highest` all diverges."""
    config, tried = dataclasses.replace(TINY, rates=tuple(rates)), {}

    def trainer(setting, seed):
        assert seed == config.seeds[0]
        place = math.log(setting.rate)
        val = None if place > highest else 1 / (1 + abs(place - peak))
        tried[setting.rate] = -1 if val is None else val
        return {"val": val}

    found, at_end = search.tuned(config, trainer, BASE)
    assert set(rates) <= set(tried) and len(tried) <= len(rates) + search.WIDENINGS
    if len(rates) == 1:
        assert list(tried) == rates == [found.rate] and not at_end
        return
    assert tried[found.rate] == max(tried.values())
    assert at_end == (found.rate in (min(tried), max(tried)))
    if at_end:  # only after the search has gone as far as it may
        assert len(tried) == len(rates) + search.WIDENINGS


def test_without_axes_the_base_alone_is_trained():
    config = dataclasses.replace(TINY, axes=())
    asked = []

    def trainer(setting, seed):
        asked.append((setting, seed))
        return score(setting, seed)

    assert len(search.study(config, trainer)) == 1
    assert set(asked) == {(BASE, 0), (BASE, 1)} and search.most_trials(config) == 2


@pytest.mark.slow
def test_the_command_goes_on_cell_by_cell_and_may_be_widened(tmp_path, monkeypatch):
    train, trained = trials.train, []

    def counted(config, setting, seed, *rest, evaluate=True, **options):
        if evaluate:
            trained.append((setting.width, seed))
            if len(trained) == 4:
                raise KeyboardInterrupt
        return train(config, setting, seed, *rest, evaluate=evaluate, **options)

    monkeypatch.setattr(trials, "train", counted)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit):
        run(folder)
    assert not (folder / "summary.json").exists()
    assert len(list((folder / "cells").glob("*.json"))) == 3
    assert Stopping.kept == f"3 finished networks in {folder}"
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
        *("calibration", "confusion", "mistakes"),
    }
    best = max(summary["table"], key=lambda row: (row["val"]["mean"], -row["parameters"]))
    assert summary["best"]["value"] == best["value"]
    with pytest.raises(SystemExit):
        run(folder, "--steps", 7)


def test_seeds_of_several_machines_are_one_study(tmp_path, monkeypatch):
    monkeypatch.setattr(insights, "look", lambda *_: {})
    for picture in ("accuracy", "cost", "training"):
        monkeypatch.setattr(figures, picture, lambda *_: None)
    whole = run(tmp_path / "whole", "--axes", "--seeds", 0, 1)
    for seed in (0, 1):
        run(tmp_path / f"machine{seed}", "--axes", "--seeds", seed)
    monkeypatch.setattr(trials.Trainer, "_train", None)  # nothing is trained
    both = ("--join", tmp_path / "machine0", tmp_path / "machine1")
    joined = run(tmp_path / "joined", "--axes", "--seeds", 0, 1, *both)
    for row in (*joined["table"], *whole["table"]):
        row.pop("seconds")
    for key in ("best", "test", "table", "seeds"):
        assert joined[key] == whole[key]
    assert sum(len(one["parts"]) for one in joined["joined"][1:]) == 2


@pytest.mark.slow
def test_test_accuracy_is_that_of_the_saved_networks(tmp_path):
    summary = run(tmp_path / "run", "--axes")
    data = trials.on_device(datasets.load("digits", images=60, val_fraction=0.25), "cpu")
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
    monkeypatch.setitem(trials.RATES, "sgd", 1e30)
    words = ("--block", "plain", "--axes")
    with pytest.raises(SystemExit):
        run(tmp_path / "all", *words, "--optimizer", "sgd")
    assert "every setting diverged" in capsys.readouterr().err
    monkeypatch.setattr(insights, "look", lambda *_: {})
    summary = run(tmp_path / "some", *words, "optimizers", "--optimizers", "sgd", "--no-combine")
    good, bad = summary["table"]
    assert good["diverged"] == [] and len(bad["diverged"]) == 2
    assert bad["val"] == {"mean": None, "std": None, "seeds": 0}
    assert summary["best"]["axis"] == "base"
    assert "2 of 2 seeds diverged, by step" in capsys.readouterr().out
    with (tmp_path / "some" / "results.csv").open() as file:
        assert [row["val"] for row in csv.DictReader(file)][2:] == ["", ""]


def test_one_diverged_seed_is_no_number_and_its_setting_no_choice():
    config = dataclasses.replace(TINY, widths=(2.0,), combine=False)

    def trainer(setting, seed):
        lost = setting.width == 2 and seed == 1
        return {"val": None if lost else 0.4 + 0.1 * setting.width, "parameters": 1}

    base, wide = search.study(config, trainer)
    assert wide["val"] == {"mean": 0.4 + 0.1 * 2, "std": None, "seeds": 1}
    assert search.reliable([base, wide]) == [base]


def test_a_cell_whose_weights_were_damaged_is_trained_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(insights, "look", lambda *_: {})
    summary = run(tmp_path / "run", "--axes")
    weights = tmp_path / "run" / "cells" / f"{BASE.stem(1)}.pt"
    whole, content = weights.read_bytes(), bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    capsys.readouterr()
    again = run(tmp_path / "run", "--axes")
    assert "is damaged or missing" in capsys.readouterr().out
    assert again["test"] == summary["test"] and weights.read_bytes() == whole


def test_one_seed_has_no_spread():
    assert "±" not in report.percent({"mean": 0.5, "std": None})
    assert "±" in report.percent({"mean": 0.5, "std": 0.0})


@pytest.mark.parametrize("name", study.PRESETS)
def test_presets_can_be_built(name):
    config = study.PRESETS[name]
    side, channels = (8, 1) if name == "digits" else (32, 3)
    for setting in (search.base(config), *(s for *_, s in search.variations(config))):
        trials.parsed_block(setting.block)
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
        ("--rates nan", "--rates nan: must be a finite number"),
        ("--rates 1 1", "each of them once"),
        ("--cutout 99", "--cutout 99: the images are 8x8"),
        ("--batch-size 500", "--batch-size 500: digits has 60 train images"),
        ("--dataset photos", "photos has no labels"),
        ("--name a/b", "plain name"),
        ("--seeds 0 0", "each of them once"),
        ("--seeds 99999999999999999999", "--seeds"),
        ("--widths -1", "must be above 0"),
        ("--val-fraction 0", "--val-fraction 0.0: must be in (0, 1)"),
        ("--steps 1", "--steps"),
        ("--surface 4", "--surface 4: must be odd"),
        ("--dataset nonsense", "nonsense"),
        ("--device nonsense", "--device nonsense"),
        ("--seeds -1", "--seeds"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(tmp_path, capsys, words, said):
    line = refusal(capsys, lambda: run(tmp_path / "run", *words.split()))
    assert said in line
    assert not (tmp_path / "run").exists()


def test_a_last_update_that_is_too_much_is_a_divergence():
    """The loss before it is finite, and its outputs would be counted as right or wrong."""
    data = trials.on_device(datasets.load("digits", images=60), torch.device("cpu"))
    config = SimpleNamespace(**{**vars(TINY), "steps": 1})
    _, row = trials.train(config, dataclasses.replace(BASE, block="plain", rate=1e30), 0, data)
    assert row["val"] is None and row["diverged"] == 1
    assert all(share > 0 for _, share in row["curve"])
