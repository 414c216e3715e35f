"""The training command: exact resume, its report, and one line for mistakes."""

import csv
import dataclasses
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from groundfloor import cli, plots
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.pytorch import batches, checkpoints
from groundfloor.runs import Stopping, read_rows
from optim_torch import train
from optim_torch.dessilbi import structure
from optim_torch.training import build, evaluate, figures, loop, tickets
from tests import tfds
from tests.refusals import refusal

torch.set_num_threads(1)

PICTURES = ("curves", "path", "layers")
SMALL = shlex.split("--widths 2 3 6 5 --epochs 6 --threshold 0.3")


@pytest.fixture(autouse=True)
def without_pictures(request, monkeypatch):
    """They take longer than the training; one test looks at them."""
    if "report" not in request.node.name:
        for name in PICTURES:
            monkeypatch.setattr(figures, name, lambda *_: None)


def run(folder, *words):
    """The command on digits with a small LeNet; returns the summary."""
    words = ["digits", *SMALL, "--device", "cpu", "--out", str(folder), *map(str, words)]
    return cli.run(train.main, train.Config, train.PRESETS, words)


def state(folder):
    """Everything of the newest checkpoint but the clock on the wall."""
    found = checkpoints.newest(folder / "checkpoints", "cpu")
    found.pop("seconds")
    return found


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_report_counts_what_the_checkpoint_holds(tmp_path, monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
    summary = run(tmp_path, "--figures", "pdf", "--table", "csv")
    config, data_set, trained = loop.load(tmp_path)
    with (tmp_path / "table.csv").open() as file:
        shown = {row["weights"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    assert shown == {name: row["accuracy"] for name, row in summary["test"].items()}
    test = batches.on_device(data_set.test, torch.device("cpu"))
    normalise = batches.normalisation(test, False)
    assert summary["test"]["w"]["accuracy"] == evaluate.accuracy(trained.model, test, normalise)
    masks = structure.masks(trained.optimizer)
    assert summary["test"]["w_on_support"]["density"] == structure.density(trained.optimizer)
    with structure.swapped(trained.optimizer, structure.restricted(trained.optimizer, masks)):
        on_support = evaluate.accuracy(trained.model, test, normalise)
    assert summary["test"]["w_on_support"]["accuracy"] == on_support
    with structure.swapped(trained.optimizer, structure.gammas(trained.optimizer)):
        gamma = evaluate.accuracy(trained.model, test, normalise)
    assert summary["test"]["gamma"]["accuracy"] == gamma
    assert summary["layers"] == structure.layers(trained.optimizer)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["density"] == structure.density(trained.optimizer) < 1
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["clock"] == pytest.approx(6 * 20 * config.lr / config.nu)
    with np.load(tmp_path / "path.npz") as arrays:
        final = arrays["gamma/conv3.weight"][-1]
        support = structure.support(trained.optimizer)["conv3.weight"].numpy()
        assert ((final > 0) == support).all()
        assert arrays["time"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    for name in ("curves", "path", "structure"):
        for kind in ("png", "pdf"):
            assert (tmp_path / "figures" / f"{name}.{kind}").stat().st_size > 1000


@pytest.mark.parametrize(
    "words",
    [
        "--momentum 0.9",
        "--base adam --lr 0.01 --lr-gamma 1 --augment --coupling coupled",
        "--optimizer adamw --lr 0.01 --schedule cosine",
        "--grow-tau 0.1 --grow-every 2 --standardise",
    ],
)
def test_killed_at_any_moment_it_goes_on_to_the_bit(tmp_path, monkeypatch, words):
    """A checkpoint after every chunk, and an interruption in the middle of an epoch."""
    words = [*words.split(), "--epochs", "3"]
    monkeypatch.setattr(loop, "LOOK_EVERY", 7)
    monkeypatch.setattr("groundfloor.pytorch.steps.SECONDS", 0)
    run(tmp_path / "whole", *words)
    steps = loop._train_step
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return steps(*arguments)

    monkeypatch.setattr(loop, "_train_step", interrupted)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", *words)
    assert state(tmp_path / "cut")["step"] == 47  # 20 + 20 + 7 of the third epoch's 20 steps
    calls[49:] = []
    monkeypatch.setattr(Stopping, "kept", None)
    with pytest.raises(SystemExit):  # stopped again, before anything new is kept
        run(tmp_path / "cut", *words)
    assert Stopping.kept == f"step 47 in {tmp_path / 'cut'}"
    monkeypatch.setattr(loop, "_train_step", steps)
    run(tmp_path / "cut", *words)
    assert same(state(tmp_path / "whole"), state(tmp_path / "cut"))
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert rows[0] == rows[1]


KILLED = """
from groundfloor import cli
from groundfloor.pytorch import steps
from optim_torch import train
from optim_torch.training import figures
steps.SECONDS = 0
for name in ("curves", "path", "layers"):
    setattr(figures, name, lambda *_: None)
cli.run(train.main, train.Config, train.PRESETS)
"""


@pytest.mark.slow
def test_kill_9_and_a_damaged_checkpoint(tmp_path):
    """Killed in the middle, its newest checkpoint damaged, it still ends where a whole run does."""
    words = ["digits", *SMALL, "--epochs", "40", "--device", "cpu", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, *words, str(tmp_path / "cut")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    while len(read_rows(metrics)) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    older, newest = sorted((tmp_path / "cut" / "checkpoints").glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    said = []
    found = checkpoints.newest(tmp_path / "cut" / "checkpoints", "cpu", said.append)
    assert found["step"] == int(older.name.split("-")[0]) > 0
    assert len(said) == 1 and newest.name in said[0]
    run(tmp_path / "cut", "--epochs", 40)
    run(tmp_path / "whole", "--epochs", 40)
    assert same(state(tmp_path / "cut"), state(tmp_path / "whole"))
    assert [row["epoch"] for row in read_rows(metrics)] == list(range(1, 41))


def test_a_ticket_trains_only_its_support_from_the_initial_weights(tmp_path):
    short = ("--epochs", 2)
    run(tmp_path / "find", *short, "--keep-epochs", 2, "--penalty", "l1", "--threshold", "0.01")
    kept = tmp_path / "find" / "kept" / "epoch-002.pt"
    _, data_set, found = loop.load(tmp_path / "find", epoch=2)
    masks = structure.masks(found.optimizer)
    for kind in ("support", "random"):
        folder = tmp_path / kind
        words = [*short, "--optimizer", "sgd", "--ticket", kept, "--ticket-masks", kind]
        summary = run(folder, *words)
        config, _, trained = loop.load(folder)
        named = dict(trained.model.named_parameters())
        density = structure.kept_entries(found.optimizer, masks) / sum(
            p.numel() for p in named.values()
        )
        assert 0.02 < density < 0.98
        assert summary["test"]["w"]["density"] == pytest.approx(density, abs=2e-3)
        initial = dict(build.build_model(config, data_set).named_parameters())
        zero = {name: named[name] == 0 for name in masks}
        counts = {name: int(zero[name].sum()) for name in masks}
        assert counts == {name: int((~mask).sum()) for name, mask in masks.items()}
        as_found = all(torch.equal(zero[name], ~mask) for name, mask in masks.items())
        assert as_found == (kind == "support")
        assert not torch.equal(named["conv1.bias"], initial["conv1.bias"])


def test_initial_weights_and_batches_depend_on_the_seed_alone():
    config = train.Config(widths=(2, 3, 6, 5))
    digits = datasets.load("digits")
    one, two = (build.build_model(config, digits).state_dict() for _ in range(2))
    assert same(one, two)
    assert torch.equal(batches.order(100, 3, 5), batches.order(100, 3, 5))
    assert sorted(batches.order(100, 3, 5).tolist()) == list(range(100))
    assert not torch.equal(batches.order(100, 3, 5), batches.order(100, 3, 6))


def test_crops_are_shifts_and_mirror_images():
    torch.manual_seed(0)
    pixels = torch.randint(1, 255, (64, 2, 6, 6), dtype=torch.uint8)
    found = batches.crop_and_flip(pixels, padding=2)
    padded = torch.nn.functional.pad(pixels, (2,) * 4)
    drawn = set()
    for image, result in zip(padded, found, strict=True):
        matches = {
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(_window(image, top, left, mirrored), result)
        }
        assert matches
        drawn |= matches
    assert len(drawn) > 25


def _window(image, top, left, mirrored):
    window = image[:, top : top + 6, left : left + 6]
    return window.flip(-1) if mirrored else window


def test_standardised_train_images_have_mean_zero_and_deviation_one():
    images = batches.on_device(datasets.load("digits").train, torch.device("cpu"))
    values = batches.normalisation(images, True)(images.pixels)
    assert float(values.mean()) == pytest.approx(0, abs=1e-5)
    assert float(values.std()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(batches.normalisation(images, False)(images.pixels), images.pixels / 255)


def test_recalibration_measures_batchnorm_anew_and_gives_it_back():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3))
    images = batches.on_device(datasets.load("digits").train, torch.device("cpu"))
    normalise = batches.normalisation(images, False)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), evaluate.recalibrated(model, images, normalise, 5, 200):
        outputs = model[0](normalise(images.pixels[:1000]))
        torch.testing.assert_close(model[1].running_mean, outputs.mean((0, 2, 3)))
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())


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
        ("--batch-size 5000", "exceeds the 1293 train images"),
        ("--device cuda:99", "--device cuda:99"),
        ("--dataset nonsense", "nonsense"),
        ("--ticket nowhere.pt", "nowhere.pt does not exist"),
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


def test_dense_and_sparse_weights_are_evaluated_by_one_protocol():
    """Where Γ selects everything, W on its support is W, and BatchNorm makes no difference."""
    config = train.Config(model="resnet20", widths=(2,), threshold=0.0, penalty="l1", lr_gamma=0.1)
    data_set = datasets.load("digits", images=64)
    trained = loop.prepare(config, data_set, torch.device("cpu"))
    images = batches.on_device(data_set.train, torch.device("cpu"))
    normalise = batches.normalisation(images, False)
    trained.model.train()
    for _ in range(3):  # the running statistics are still far from those of the images
        trained.optimizer.zero_grad()
        inputs = normalise(images.pixels)
        loop.loss_of(config, trained.model, inputs, images.labels).backward()
        trained.optimizer.step()
    assert structure.density(trained.optimizer) > 0.99
    before = {name: buffer.clone() for name, buffer in trained.model.named_buffers()}
    found = evaluate.accuracies(trained.model, trained.optimizer, images, images, normalise)
    assert found["w"]["accuracy"] == found["w_on_support"]["accuracy"]
    assert found["w"]["accuracy"] != evaluate.accuracy(trained.model, images, normalise)
    assert all(torch.equal(b, before[name]) for name, b in trained.model.named_buffers())


def test_without_images_there_is_no_accuracy():
    nothing = batches.Images(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0))
    with pytest.raises(ValueError, match="no images"):
        evaluate.accuracy(torch.nn.Flatten(), nothing, lambda pixels: pixels)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_outputs_that_are_not_finite_have_no_accuracy(value):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    with torch.no_grad():
        model[1].bias[0] = value  # the first is the largest then: all images would be right
    images = batches.Images(torch.zeros(5, 1, 2, 2), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(UserError, match="not finite"):
        evaluate.accuracy(model, images, lambda pixels: pixels)


@pytest.mark.parametrize("penalty", ["l1", "filter", "column", "layer"])
def test_every_penalty_of_the_command_trains(tmp_path, penalty):
    summary = run(tmp_path, "--penalty", penalty, "--threshold", 0.01, "--epochs", 2)
    _, _, trained = loop.load(tmp_path)
    shapes = {name: p.shape for name, p in trained.model.named_parameters()}
    for row in summary["layers"]:
        shape = shapes[row["layer"]]
        groups = {"l1": shape.numel(), "filter": shape[0], "column": shape[1], "layer": 1}
        assert row["groups"] == groups[penalty] and row["selected"] > 0


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


def test_a_ticket_of_another_network_is_refused(tmp_path, capsys):
    run(tmp_path / "find", "--keep-epochs", 2, "--epochs", 2)
    kept = tmp_path / "find" / "kept" / "epoch-002.pt"
    words = ["digits", "--optimizer", "sgd", "--ticket", str(kept), "--out", str(tmp_path / "x")]
    with pytest.raises(SystemExit):
        cli.run(train.main, train.Config, train.PRESETS, words)
    assert "holds no structure of this network" in capsys.readouterr().err
