"""What a user of optim_torch.train gets wrong, and what binds a run to its files."""

import dataclasses
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.runs import read_rows
from optim_torch import train
from optim_torch.training import loop, tickets
from tests import tfds
from tests.optim_torch.training.runs import run, state
from tests.refusals import refusal


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--nu -1", "--nu -1.0: must be above 0"),
        ("--kappa 0", "--kappa 0.0: must be above 0"),
        ("--lr -0.1", "--lr -0.1: must be at least 0"),
        ("--epochs 0", "--epochs 0: must be in [1, "),
        ("--layers conv9", "no layer 'conv9'; it has conv1, conv2"),
        ("--model vgg16", "VGG takes images of 32x32"),
        ("--widths 3", "LeNet has 4 widths"),
        ("--batch-size 5000", "exceeds the 1,293 train images"),
        ("--device cuda:99", "--device cuda:99"),
        ("--dataset nonsense", "nonsense"),
        ("--ticket nowhere.pt", "nowhere.pt does not exist"),
        ("--rewind nowhere.pt", "nowhere.pt does not exist"),
        ("--optimizer sgd --grow-tau 0.5", "needs --optimizer dessilbi"),
        ("--base lbfgs", "lbfgs"),
        ("--grow-tau 1.5", "--grow-tau 1.5: must be in [0, 1]"),
        ("--grow-tau 0.5 --layers fc2", "none of --layers can grow"),
        ("--grow-tau 0.5 --model resnet20", "shortcuts tie the widths"),
        ("--widths 0 2 3 4", "--widths 0: must be in [1, "),
        ("--drop-factor -1", "--drop-factor -1.0: must be in (0, 1]"),
        ("--keep-epochs 500", "--keep-epochs 500: there are 100 epochs"),
        ("--seed 99999999999999", "--seed 99999999999999: must be in [0, "),
        ("--seed -1", "--seed -1"),
        ("--grow-tau 0.5 --grow-factor nan", "--grow-factor nan: must be a finite number"),
        ("--grow-tau 0.5 --grow-factor 0.5", "--grow-factor 0.5: must be at least 1"),
        ("--lr nan", "--lr nan: must be a finite number"),
        ("--lr-gamma inf", "--lr-gamma inf: must be a finite number"),
        ("--val-fraction 1", "--val-fraction 1.0: must be in [0, 1)"),
        ("--name ../../x", "plain name"),
        ("--dataset photos", "photos has no labels"),
        ("--images 1", "digits has 1 class in train"),
    ],
)
def test_mistakes_get_one_line(tmp_path, capsys, words, said):
    command = ["digits", "--out", str(tmp_path / "run"), *words.split()]
    line = refusal(capsys, lambda: cli.run(train.main, train.Config, train.PRESETS, command))
    assert said in line
    assert not (tmp_path / "run").exists()  # the corrected command is not refused


def test_a_diverging_run_names_the_step(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, "--optimizer", "sgd", "--lr", "1e30")
    assert "the loss is not finite by step" in capsys.readouterr().err


def test_a_collapse_after_learning_stops():
    learned = SimpleNamespace(best_loss=math.inf)
    rows = [
        {"epoch": e, "step": 10 * e, "loss": loss} for e, loss in enumerate((2.3, 0.4, 2.29), 1)
    ]
    guessing = math.log(10)
    for row in rows[:2]:
        loop._stop_if_collapsed(learned, row, guessing)
    assert learned.best_loss == 0.4
    with pytest.raises(UserError, match=r"in epoch 3 \(step 30\): loss 2.29 after 0.40"):
        loop._stop_if_collapsed(learned, rows[2], guessing)
    for row in rows:
        never = SimpleNamespace(best_loss=2.3)
        loop._stop_if_collapsed(never, {**row, "loss": 2.3}, guessing)


def test_what_a_collapse_is_measured_by_survives_a_stop_and_a_lost_log(tmp_path):
    run(tmp_path, "--epochs", 2)
    best = min(row["loss"] for row in read_rows(tmp_path / "metrics.jsonl"))
    (tmp_path / "metrics.jsonl").unlink()
    assert loop.load(tmp_path)[2].best_loss == state(tmp_path)["best_loss"] == best


def tfds_set(root, seed):
    """A data set "made" of random images and labels; replaces what was there."""
    shutil.rmtree(root, ignore_errors=True)
    pixels = tfds.pictures(60, channels=1, seed=seed)
    rows = tfds.rows_of(pixels, np.arange(60) % 3)
    tfds.write_tfds(root, "made", {"train": rows, "test": rows}, num_classes=3, shape=(8, 8, 1))


def test_a_run_is_bound_to_its_images(tmp_path, capsys, monkeypatch):
    """Other images under the same name: refused before a step is taken, and by `load`."""
    words = ["--dataset", "made", "--data-dir", tmp_path / "data", "--batch-size", 16]
    tfds_set(tmp_path / "data", 0)
    steps, calls = loop._train_step, []

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return steps(*arguments)

    monkeypatch.setattr(loop, "_train_step", counted)
    monkeypatch.setattr("groundfloor.pytorch.steps.SECONDS", 0)
    with pytest.raises(SystemExit):
        run(tmp_path / "run", *words)
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    tfds_set(tmp_path / "data", 1)
    capsys.readouterr()
    assert "was made from other images" in refusal(capsys, lambda: run(tmp_path / "run", *words))
    assert len(calls) == 7
    assert kept == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="other images"):
        loop.load(tmp_path / "run", data_dir=tmp_path / "data")
    tfds_set(tmp_path / "data", 0)
    assert loop.load(tmp_path / "run", data_dir=tmp_path / "data")[2].step > 0
    run(tmp_path / "run", *words)


def test_a_run_is_bound_to_the_content_of_its_ticket(tmp_path, capsys):
    run(tmp_path / "find", "--keep-epochs", 1, 2, "--epochs", 2, "--penalty", "l1")
    one, two = (tmp_path / "find" / "kept" / f"epoch-00{i}.pt" for i in (1, 2))
    here = tmp_path / "ticket.pt"
    shutil.copy(one, here)
    words = ("--optimizer", "sgd", "--epochs", 2, "--ticket")
    summary = run(tmp_path / "train", *words, here)
    assert run(tmp_path / "train", *words, one) == summary  # the same, by another path
    shutil.copy(two, here)
    capsys.readouterr()
    line = refusal(capsys, lambda: run(tmp_path / "train", *words, here))
    assert "other settings (ticket " in line


def test_states_that_do_not_fit_are_one_line(tmp_path, capsys):
    run(tmp_path / "run", "--epochs", 2)
    found = state(tmp_path / "run")
    _, data_set, _ = loop.load(tmp_path / "run")
    config = train.Config(widths=(2, 3, 6, 5), optimizer="sgd")
    cases = [
        ({"step": 3}, "of another version: it has no"),
        ({**found, "seconds": 0, "widths": [2, 3, 6, 4]}, "does not fit this network"),
        ({**found, "seconds": 0}, "does not fit this network"),  # of DessiLBI
    ]
    for case, said in cases:
        with pytest.raises(UserError, match=said) as refused:
            loop.prepare(config, data_set, torch.device("cpu"), case)
        assert "\n" not in str(refused.value)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"dataset": "digits"}')
    with pytest.raises(UserError, match=r"no settings of optim_torch\.train"):
        loop.load(tmp_path / "other")


def test_flags_without_effect_are_said(tmp_path, capsys):
    words = ("--optimizer", "adam", "--nu", 3, "--momentum", 0.5, "--grow-every", 3)
    run(tmp_path, *words, "--epochs", 1)
    said = capsys.readouterr().out
    for line in (
        "--nu has no effect with --optimizer adam",
        "--momentum has no effect with adam",
        "--grow-every has no effect without --grow-tau",
    ):
        assert line in said
    assert said.count("has no effect") == 4  # --threshold is among SMALL


WEIGHTS = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    "state",
    [
        *([1, 2], {}, {"optimizer": 3}, {"optimizer": {}}, WEIGHTS.state_dict()),
        {"optimizer": torch.optim.Adam(WEIGHTS.parameters()).state_dict()},
        {"optimizer": {"state": {}, "param_groups": [{"params": [0], "param_names": []}]}},
        {"optimizer": {"state": [], "param_groups": [{"params": [0], "param_names": ["w"]}]}},
    ],
)
def test_another_programs_checkpoint_is_no_ticket(tmp_path, state):
    config = dataclasses.replace(train.DIGITS, ticket=tmp_path / "other.pt")
    torch.save(state, config.ticket)
    with pytest.raises(UserError, match=r"other\.pt holds no state of a training run"):
        tickets.ticket_masks(config, torch.nn.Linear(2, 2), torch.device("cpu"))


def test_weights_of_another_network_are_refused(tmp_path):
    kept = {"optimizer": torch.optim.Adam(WEIGHTS.parameters()).state_dict()}
    kept["optimizer"]["param_groups"][0]["param_names"] = ["weight", "bias"]
    torch.save(kept | {"model": WEIGHTS.state_dict()}, tmp_path / "kept.pt")
    config = dataclasses.replace(train.DIGITS, rewind=tmp_path / "kept.pt")
    tickets.rewind(config, torch.nn.Linear(2, 2), torch.device("cpu"))
    with pytest.raises(UserError, match=r"kept\.pt holds no weights of this network"):
        tickets.rewind(config, torch.nn.Linear(2, 3), torch.device("cpu"))


def test_a_ticket_of_another_network_is_refused(tmp_path, capsys):
    run(tmp_path / "find", "--keep-epochs", 2, "--epochs", 2)
    kept = tmp_path / "find" / "kept" / "epoch-002.pt"
    words = ["digits", "--optimizer", "sgd", "--ticket", str(kept), "--out", str(tmp_path / "x")]
    with pytest.raises(SystemExit):
        cli.run(train.main, train.Config, train.PRESETS, words)
    assert "holds no structure of this network" in capsys.readouterr().err
