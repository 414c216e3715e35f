"""The sweep's experiment, rehearsed at tiny size, and its GPU command lines read."""

import csv
import dataclasses
import shlex

import pytest

from experiments import prune_dense, prune_in21k, prune_recovery, prune_speed, prune_sweep
from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.runs import read_json
from prune_torch import sweep
from prune_torch.protocol import figures
from tests.prune_torch import sweeps, tiny

TINY = (
    "--images 48 --batch-size 16 --dense-steps 2 --steps 4 --jobs 1 --methods magnitude neurons "
    "--densities 0.5"
)


@pytest.mark.slow
def test_the_experiment_keeps_table_pictures_and_numbers(tmp_path, in_this_process):
    config = prune_sweep.Config(
        seeds=(0,),
        flags=TINY,
        taught=("magnitude",),
        out=tmp_path / "run",
        results=tmp_path / "results",
    )
    prune_sweep.main(config, "digits")
    with (tmp_path / "results" / "prune_digits.csv").open() as file:
        rows = [(row["method"], float(row["distil"])) for row in csv.DictReader(file)]
    assert rows == [("magnitude", 0.0), ("neurons", 0.0), ("magnitude", 0.5)]
    found = read_json(tmp_path / "results" / "prune_digits.json")
    assert found["cells"] == 3 and found["commit"]
    pictures = {path.name for path in (tmp_path / "results").glob("*.png")}
    assert pictures == {
        f"prune_digits_{name}.png"
        for name in ("accuracy", "cost", "difference", "groups", "layers")
    }


@pytest.mark.parametrize("name", prune_sweep.PRESETS)
def test_its_commands_can_be_read(name):
    preset = prune_sweep.PRESETS[name]
    defaults = sweep.PRESETS[preset.preset or name]
    config = cli.parse(sweep.Config, defaults, shlex.split(preset.flags))
    assert set(preset.taught) <= set(config.methods)


def test_curves_of_recovery_begin_before_it():
    rows = [
        {"method": "magnitude", "steps": steps, "seed": seed, "top1_before": 0.2, "top1": top1}
        | {"extra_passes": 5 + seed, "density": 0.3, "distil": 0.0}
        for seed in (0, 1)
        for steps, top1 in ((10, 0.3 + seed / 10), (50, 0.6))
    ]
    config = prune_recovery.Config(methods=("magnitude",), seeds=(0, 1))
    for others in ({"density": 0.1}, {"seed": 2}, {"distil": 0.5}, {"method": "random"}):
        assert not prune_recovery.wanted(rows[0] | others, config)
    rows = [row for row in rows if prune_recovery.wanted(row, config)]
    (curve,) = prune_recovery.points(rows, ["magnitude"]).values()
    assert [point["steps"] for point in curve] == [0, 10, 50]
    assert [point["passes"] for point in curve] == [5.5, 15.5, 55.5]
    assert [point["top1"]["mean"] for point in curve] == pytest.approx([0.2, 0.35, 0.6])
    assert curve[1]["top1"]["std"] == pytest.approx(0.1 / 2**0.5)


def test_a_dense_network_is_trained_and_released(tmp_path, monkeypatch):
    """At tiny size, on digits."""
    monkeypatch.setitem(sweep.PRESETS, "tiny", sweeps.TINY)
    config = prune_dense.Config(
        out=tmp_path / "run", results=tmp_path, released=tmp_path, images=64, steps=3
    )
    found = prune_dense.main(config, "tiny")
    assert (tmp_path / "tiny.safetensors").stat().st_size == found["bytes"]
    assert found == read_json(tmp_path / "prune_dense_tiny.json")
    assert found["settings"]["dense_steps"] == "3"


def test_a_rehearsal_leaves_the_released_network_alone():
    with pytest.raises(ValueError, match=r"--released .*: a rehearsal"):
        prune_dense.Config(steps=3)


def test_hours_are_measured_on_a_network():
    step, look = prune_in21k.rates(tiny.bench(), 2)
    assert step > 0 and look > 0
    preset = sweep.PRESETS["cifar10-in21k"]
    assert prune_in21k.cell_seconds(preset, 2.0, 0.0) == 2 * preset.steps
    assert prune_in21k.cell_seconds(preset, 0.0, 1.0) == 25_000


@pytest.mark.slow
def test_speeds_are_of_the_chosen_networks_of_a_sweep(tmp_path, monkeypatch):
    for name in ("accuracy", "difference", "layers", "cost", "groups"):
        monkeypatch.setattr(figures, name, lambda *_: None)
    words = ("--methods", "neurons", "magnitude", "--densities", 0.7, 0.9)
    sweeps.run(tmp_path, *words)
    config = prune_speed.Config(methods=("neurons",), densities=(0.7,))
    dense, chosen = prune_speed.networks(config, tmp_path)
    assert dense.stem.startswith("dense-")
    assert [path.stem for path in chosen] == ["neurons-d0.7-s0"]
    with pytest.raises(UserError, match="no finished sweep"):
        prune_speed.networks(config, tmp_path / "gone")
    config = dataclasses.replace(config, run=tmp_path, batches=(1,), rounds=2, images=20)
    found = prune_speed.main(dataclasses.replace(config, results=tmp_path / "results"), "digits")
    top1 = {(row["name"], row["engine"]): row["top1"] for row in found["rows"]}
    assert {name for name, _ in top1} == {"dense", "neurons-d0.7"}
    assert top1["neurons-d0.7", "eager"] == chosen[next(iter(chosen))]
    assert 0 <= top1["neurons-d0.7", "int8"] <= 1
    assert (tmp_path / "results" / "prune_speed_digits.png").exists()
    told = {row["engine"]: row for row in found["rows"] if "run_megabytes" in row}
    assert {*told} <= {"eager"}  # none where the system does not tell
    assert all(row["run_megabytes"] > 0 and row["run_ratio"] > 0 for row in told.values())
