"""optim_torch.train: reports, exact resume, tickets, evaluation."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundfloor import plots
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.pytorch import batches, checkpoints
from groundfloor.runs import Stopping, read_rows
from optim_torch import train
from optim_torch.dessilbi import structure
from optim_torch.training import build, evaluate, loop, tickets
from tests.optim_torch.training.runs import SMALL, run, state


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.slow
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
        "--base adam --lr 0.01 --lr-gamma 1 --augment --coupling coupled",
        pytest.param("--momentum 0.9", marks=pytest.mark.slow),
        pytest.param("--optimizer adamw --lr 0.01 --schedule cosine", marks=pytest.mark.slow),
        pytest.param("--grow-tau 0.1 --grow-every 2 --standardise", marks=pytest.mark.slow),
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


@pytest.mark.slow
def test_a_ticket_trains_only_its_support_from_the_initial_weights(tmp_path):
    short = ("--epochs", 2)
    run(tmp_path / "find", *short, "--keep-epochs", 2, "--penalty", "l1", "--threshold", "0.01")
    kept = tmp_path / "find" / "kept" / "epoch-002.pt"
    _, data_set, found = loop.load(tmp_path / "find", epoch=2)
    masks = structure.masks(found.optimizer)
    for kind in ("support", "random", "magnitude"):
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
        dropped = {name: int((~mask).sum()) for name, mask in masks.items()}
        assert sum(counts.values()) == sum(dropped.values())
        assert (counts == dropped) == (kind != "magnitude")
        as_found = all(torch.equal(zero[name], ~mask) for name, mask in masks.items())
        assert as_found == (kind == "support")
        assert not torch.equal(named["conv1.bias"], initial["conv1.bias"])


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=5))
def test_even_masks_keep_the_same_share_of_every_layer(layers):
    masks = {str(i): torch.arange(size) < kept for i, (size, kept) in enumerate(layers)}
    share = sum(min(size, kept) for size, kept in layers) / sum(size for size, _ in layers)
    for name, mask in tickets.even_masks(masks, torch.Generator()).items():
        assert mask.shape == masks[name].shape
        assert abs(int(mask.sum()) - share * mask.numel()) <= 0.5


def test_even_masks_are_of_single_entries_where_whole_filters_would_fit_too():
    masks = {"conv": torch.arange(20 * 25).view(20, 1, 5, 5) < 50}
    (mask,) = tickets.even_masks(masks, torch.Generator().manual_seed(0)).values()
    kept = mask.flatten(1).sum(1)
    assert int(kept.sum()) == 50 and (kept < 25).all() and int((kept > 0).sum()) > 10


def test_magnitude_tickets_and_rewound_weights_are_those_of_the_kept_epoch(tmp_path):
    run(
        tmp_path / "find", "--epochs", 2, "--keep-epochs", 1, "--penalty", "l1", "--threshold", 0.01
    )
    kept = tmp_path / "find" / "kept" / "epoch-001.pt"
    _, data_set, found = loop.load(tmp_path / "find", epoch=1)
    config = train.Config(
        widths=(2, 3, 6, 5), ticket=kept, ticket_masks="magnitude", rewind=kept, optimizer="sgd"
    )
    fresh = loop.prepare(config, data_set, torch.device("cpu"))
    tickets.rewind(config, fresh.model, torch.device("cpu"))
    assert same(fresh.model.state_dict(), found.model.state_dict())
    masks = tickets.ticket_masks(config, fresh.model, torch.device("cpu"))
    support = structure.masks(found.optimizer)
    assert sum(map(torch.sum, masks.values())) == sum(map(torch.sum, support.values())) > 0
    weights = {name: found.model.get_parameter(name).detach().abs() for name in masks}
    least = min(weights[name][mask].min() for name, mask in masks.items() if mask.any())
    assert all((weights[name][~mask] <= least).all() for name, mask in masks.items())
    before = fresh.model.state_dict()["conv1.weight"].clone()
    run(tmp_path / "rewound", "--epochs", 1, "--optimizer", "sgd", "--lr", 0, "--rewind", kept)
    assert torch.equal(state(tmp_path / "rewound")["model"]["conv1.weight"], before)


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


@pytest.mark.parametrize("augment", [False, True])
def test_recalibration_measures_batchnorm_anew_and_gives_it_back(augment):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3))
    images = batches.on_device(datasets.load("digits").train, torch.device("cpu"))
    normalise = batches.normalisation(images, False)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), evaluate.recalibrated(model, images, normalise, augment, 5, 200):
        parts = [batches.batch(images, 200, 0, step, augment)[0] for step in range(5)]
        outputs = model[0](normalise(torch.cat(parts)))
        torch.testing.assert_close(model[1].running_mean, outputs.mean((0, 2, 3)))
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())


def test_recalibration_leaves_the_random_state_as_it_was():
    images = batches.on_device(datasets.load("digits", images=64).train, torch.device("cpu"))
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    identity = torch.Tensor.float
    with evaluate.recalibrated(torch.nn.BatchNorm2d(1), images, identity, augment=True):
        assert torch.equal(torch.rand(3), wanted)


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
    found = evaluate.accuracies(trained.model, trained.optimizer, images, images, normalise, False)
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
