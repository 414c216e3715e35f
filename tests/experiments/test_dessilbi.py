"""Every DessiLBI experiment at tiny size, on digits, and what its table must satisfy."""

import dataclasses

import numpy as np
import pytest
import torch

from experiments import (
    dessilbi_bases,
    dessilbi_density,
    dessilbi_filters,
    dessilbi_growing,
    dessilbi_target,
    dessilbi_tickets,
    runner,
)
from groundfloor.errors import UserError
from groundfloor.runs import read_json, spread
from optim_torch.training import figures

torch.set_num_threads(1)

SMALL = "--val-fraction 0 --epochs 3 --threshold 0.02 --widths 2 3 6 5"


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch, in_this_process):
    """Runs have no pictures of their own; the experiment has its own."""
    for name in ("curves", "path", "layers"):
        monkeypatch.setattr(figures, name, lambda *_: None)


def result(main, config, tmp_path, *name):
    """The JSON that an experiment writes, which is what it returns."""
    config = dataclasses.replace(config, out=tmp_path / "runs", results=tmp_path, seeds=(0, 1))
    returned = main(config, *name)
    (path,) = tmp_path.glob("*.json")
    assert read_json(path) == returned
    return returned


@pytest.mark.slow
def test_density(tmp_path):
    config = dessilbi_density.Config(
        preset="digits", flags=SMALL, dessilbi="--penalty l1", densities=(0.1, 0.5, 1.0)
    )
    found = result(dessilbi_density.main, config, tmp_path, "tiny")
    dense = found["dense_test_accuracy"]
    *_, full = found["table"]
    assert full["density"] == 1.0
    assert full["dessilbi"] == full["dessilbi_magnitude"] == dense["dessilbi"]
    assert full["sgd_magnitude"] == dense["sgd"]
    assert (tmp_path / "dessilbi_density_tiny.png").exists()


@pytest.mark.slow
def test_target(tmp_path):
    config = dessilbi_target.Config(
        preset="digits", flags=SMALL, dessilbi="--penalty l1 --lr-gamma 0.3", targets=(0.5,)
    )
    found = result(dessilbi_target.main, config, tmp_path, "tiny")
    (row,) = found["rows"]
    assert abs(row["density"]["mean"] - 0.5) < 0.1  # after 67 steps
    assert 0 <= row["w_on_support"]["mean"] <= 1
    whole = [dessilbi_target.magnitude(f, 1.0) for f in (tmp_path / "runs").glob("sgd-seed*")]
    assert row["sgd"]["mean"] == pytest.approx(np.mean(whole))
    assert 0 <= row["sgd_magnitude"]["mean"] <= 1


def test_magnitude_masks_keep_the_largest_weights():
    model = torch.nn.Linear(5, 4)
    like = {"weight": torch.arange(20).view(4, 5) < 7}
    (mask,) = dessilbi_density.magnitude_masks(model, like).values()
    size = model.weight.detach().abs()
    assert int(mask.sum()) == 7
    assert size[mask].min() >= size[~mask].max()


@pytest.mark.slow
def test_tickets(tmp_path):
    config = dessilbi_tickets.Config(
        preset="digits", flags=SMALL, find="--penalty l1", epochs=(1, 3), train=""
    )
    rows = result(dessilbi_tickets.main, config, tmp_path, "tiny")["table"]
    table = {(row["found_after"], row["masks"], row["start"]): row for row in rows}
    assert len(table) == len(rows) == 2 + 4 + 2 * 4
    for epoch, masks, start in table:
        density = table[epoch, masks, start]["density"]["mean"]
        if masks == "dense":
            assert density == 1.0
        else:
            wanted = table[epoch, "support", start]["density"]["mean"]
            assert density == pytest.approx(wanted, abs=3e-3) and density < 1


@pytest.mark.slow
def test_growing(tmp_path):
    grow = "--widths 2 3 6 5 --penalty filter --threshold 0.001 "
    grow += "--grow-tau 0.5 --grow-every 1 --grow-until 1"
    flags = "--val-fraction 0 --epochs 3"
    config = dessilbi_growing.Config(preset="digits", flags=flags, grow=grow)
    table = result(dessilbi_growing.main, config, tmp_path, "tiny")["table"]
    assert table["grown"]["widths"] == table["same-shape"]["widths"]
    assert table["grown"]["parameters"] == table["same-shape"]["parameters"]
    assert all(width > [2, 3, 6, 5] for width in table["grown"]["widths"])
    assert table["full"]["widths"] == [[6, 16, 120, 84]] * 2
    assert table["full"]["parameters"] == {"mean": 61_706, "std": 0.0}


@pytest.mark.slow
def test_bases(tmp_path, monkeypatch):
    two = {"sgd": "--base sgd --lr 0.1", "adam, lr as clock": "--base adam --lr 0.0001 --nu 20"}
    monkeypatch.setattr(dessilbi_bases, "VARIANTS", two)
    config = dessilbi_bases.Config(preset="digits", flags=SMALL)
    table = result(dessilbi_bases.main, config, tmp_path, "tiny")["table"]
    assert [row["variant"] for row in table] == list(two)
    for row in table:
        shares = row["layers"].values()
        assert all(0 <= share["mean"] <= 1 for share in shares)
    assert all(share["mean"] == 0 for share in table[1]["layers"].values())
    assert table[1]["density"]["mean"] < 0.1 < table[0]["density"]["mean"]


@pytest.mark.slow
def test_filters(tmp_path):
    config = dessilbi_filters.Config(
        preset="digits", flags="--widths 2 3 6 5", epochs=3, shown=(1, 3)
    )
    found = result(dessilbi_filters.main, config, tmp_path)
    table = found["table"]
    assert table["sgd_filters_of_w_left"] == 6
    assert 0 <= table["selected_filters"]["mean"] <= 6
    assert len(found["runs"]) == 3


@pytest.mark.slow
def test_a_finished_run_with_other_settings_is_refused(tmp_path, monkeypatch):
    monkeypatch.undo()
    command = ["optim_torch.train", "digits", "--epochs", 1, "--device", "cpu"]
    first = runner.finished(command, tmp_path / "run", threads=1)
    assert first["epochs"] == 1
    with pytest.raises(UserError, match="did not end well"):
        runner.finished([*command, "--seed", 1], tmp_path / "run", threads=1)


def test_a_failure_stops_the_queue(tmp_path, monkeypatch):
    begun = []

    def fail(command, folder, threads):
        begun.append(folder)
        raise UserError("no")

    monkeypatch.setattr(runner, "finished", fail)
    with pytest.raises(UserError):
        runner.all_finished({tmp_path / str(i): ["x"] for i in range(50)}, runner.SweepConfig())
    assert len(begun) < 50


@pytest.mark.slow
def test_runs_on_a_ray_cluster_are_those_of_one_machine(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.undo()
    command = ["optim_torch.train", "digits", "--epochs", 1, "--device", "cpu", "--seed"]

    def runs(out, ray):
        commands = {tmp_path / out / str(seed): [*command, seed] for seed in range(2)}
        summaries = runner.all_finished(commands, runner.SweepConfig(ray=ray))
        return [summaries[folder]["test"] for folder in commands]

    assert runs("spread", "local") == runs("alone", None)
    wrong = {tmp_path / "wrong": [*command, "no seed"]}
    with pytest.raises(UserError, match="did not end well"):
        runner.all_finished(wrong, runner.SweepConfig(ray="local"))


def test_the_cluster_decides_how_many_runs_stand_side_by_side():
    with pytest.raises(ValueError, match="--jobs 2: is the cluster's business with --ray"):
        runner.SweepConfig(ray="local", jobs=2)


def test_spread_is_the_sample_deviation():
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "std": 1.0}
    assert spread([1.0]) == {"mean": 1.0, "std": None}
    assert runner.text({"mean": 0.98765, "std": 0.001}, "%") == "98.77 ± 0.10 %"
    assert runner.text({"mean": 31.2, "std": None}, "dB") == "31.20 dB"
    assert runner.text({"mean": 17.7, "std": 2.9}) == "17.70 ± 2.90"
