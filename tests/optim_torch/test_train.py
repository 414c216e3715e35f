"""The training command: exact resume, its report, and one line for mistakes."""

import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from common import batches, checkpoints, cli, datasets, plots
from common.errors import UserError
from common.runs import read_rows
from optim_torch import build, evaluate, figures, structure, train, training
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
    summary = run(tmp_path)
    config, data_set, trained = training.load(tmp_path)
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
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000


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
    words = words.split()
    monkeypatch.setattr(training, "CHECK_EVERY", 7)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    run(tmp_path / "whole", *words)
    steps = training._train_steps
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return steps(*arguments)

    monkeypatch.setattr(training, "_train_steps", interrupted)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", *words)
    assert state(tmp_path / "cut")["step"] == 47  # 20 + 20 + 7 of the third epoch's 20 steps
    monkeypatch.setattr(training, "_train_steps", steps)
    run(tmp_path / "cut", *words)
    assert same(state(tmp_path / "whole"), state(tmp_path / "cut"))
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert rows[0] == rows[1]


KILLED = """
from common import cli
from optim_torch import figures, train, training
training.SECONDS_BETWEEN_CHECKPOINTS = 0
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
    run(tmp_path / "find", "--keep-epochs", 2, "--penalty", "l1", "--threshold", "0.01")
    kept = tmp_path / "find" / "kept" / "epoch-002.pt"
    _, data_set, found = training.load(tmp_path / "find", epoch=2)
    masks = structure.masks(found.optimizer)
    for kind in ("support", "random"):
        folder = tmp_path / kind
        words = ["--optimizer", "sgd", "--ticket", kept, "--ticket-masks", kind]
        summary = run(folder, *words)
        config, _, trained = training.load(folder)
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
        ("--nu -1", "nu must be positive"),
        ("--kappa 0", "kappa must be positive"),
        ("--lr -0.1", "lr must be at least 0"),
        ("--epochs 0", "--epochs must be at least 1"),
        ("--layers conv9", "no layer 'conv9'; it has conv1, conv2"),
        ("--model vgg16", "VGG takes images of 32x32"),
        ("--widths 3", "LeNet has 4 widths"),
        ("--batch-size 5000", "exceeds the 1293 train images"),
        ("--device cuda:99", "--device cuda:99"),
        ("--dataset nonsense", "nonsense"),
        ("--ticket nowhere.pt", "nowhere.pt does not exist"),
        ("--optimizer sgd --grow-tau 0.5", "--grow-tau needs"),
        ("--base lbfgs", "lbfgs"),
        ("--grow-tau 1.5", "0 <= tau <= 1"),
        ("--grow-tau 0.5 --layers fc2", "none of --layers can grow"),
        ("--grow-tau 0.5 --model resnet20", "shortcuts tie the widths"),
        ("--widths 0 2 3 4", "--widths must be at least 1"),
        ("--drop-factor -1", "--drop-factor must lie in"),
        ("--keep-epochs 500", "--keep-epochs must lie in 1 ... 100"),
        ("--seed 99999999999999", "--seed must lie in"),
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
    rows = [
        {"epoch": e, "step": 10 * e, "loss": loss} for e, loss in enumerate((2.3, 0.4, 2.29), 1)
    ]
    with pytest.raises(UserError, match=r"in epoch 3 \(step 30\): loss 2.29 after 0.40"):
        training._stop_if_collapsed(rows, 10)
    training._stop_if_collapsed(rows[:2], 10)
    training._stop_if_collapsed(rows[:1], 10)
    training._stop_if_collapsed([{**row, "loss": 2.3} for row in rows], 10)  # never learned


def test_a_ticket_of_another_network_is_refused(tmp_path, capsys):
    run(tmp_path / "find", "--keep-epochs", 2, "--epochs", 2)
    kept = tmp_path / "find" / "kept" / "epoch-002.pt"
    words = ["digits", "--optimizer", "sgd", "--ticket", str(kept), "--out", str(tmp_path / "x")]
    with pytest.raises(SystemExit):
        cli.run(train.main, train.Config, train.PRESETS, words)
    assert "holds no structure of this network" in capsys.readouterr().err
