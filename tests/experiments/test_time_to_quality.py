"""experiments.time_to_quality reads its curves right, and its rivals are what it says they are."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import bench, streams, time_to_quality
from functa_jax import meta_train
from functa_jax.training import loop
from groundfloor import cli

SLOW = {"steps": [10, 20, 30], "seconds": [5.0, 6.0, 7.0], "psnr": [10.0, 20.0, 30.0]}
CURVE = SLOW | {"gflop": [1.0, 2.0, 3.0], "fault": None}


def test_a_row_has_what_the_target_took_between_evaluations():
    later = CURVE | {"steps": [20, 40, 60]}
    row = time_to_quality.row("ours", [CURVE, later], 25.0)
    assert row["steps"] == {"mean": 37.5, "std": pytest.approx(12.5 * 2**0.5)}
    assert row["seconds"] == {"mean": 6.5, "std": 0} and row["gflop"]["mean"] == 2.5
    assert row["last_psnr"]["mean"] == 30 and row["reached"] == 2
    assert time_to_quality.row("ours", [CURVE, later], 31.0)["seconds"] is None
    fell = CURVE | {"psnr": [10.0], "steps": [10], "fault": "training collapsed by step 15"}
    half = time_to_quality.row("ours", [CURVE, fell], 25.0)
    assert half["last_psnr"] is half["seconds"] is None and half["reached"] == 1
    none = CURVE | {"psnr": [], "steps": [], "seconds": [], "gflop": [], "fault": "not finite"}
    assert time_to_quality.row("ours", [CURVE, none], 25.0)["seconds"] is None


def test_seconds_are_those_of_the_steps_and_of_their_compilation():
    times = {"step_seconds": 0.5, "compile_seconds": 2.0}
    found = time_to_quality.timed({"steps": [10, 20], "psnr": [1.0, 2.0]}, times)
    assert found["seconds"] == [7.0, 12.0]


def test_steps_take_turns_and_are_timed_once(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(streams.time, "perf_counter", lambda: clock[0])
    taken = []

    def step(seconds, compilation):
        def turn(steps=1):
            clock[0] += seconds * (1 + (compilation - 1) * (seconds not in taken))
            taken.append(seconds)

        return turn

    own, theirs = meta_train.PRESETS["digits"], meta_train.PRESETS["digits"]
    own, theirs = replace(own, dispatch=10), replace(theirs, dispatch=5, batch_size=2)
    ways = {10: step(1.0, 4), 5: step(2.0, 6)}
    monkeypatch.setattr(streams, "training", lambda settings: ways[settings.dispatch])
    monkeypatch.setattr(bench, "plain_step", lambda shape, images: step(3.0, 2))
    config = replace(time_to_quality.PRESETS["digits"], rounds=2)
    data = SimpleNamespace(train=SimpleNamespace(images=np.zeros((4, 8, 8, 1), np.uint8)))
    found = time_to_quality.step_times(config, own, theirs, data, tmp_path)
    ours, deepminds = found[time_to_quality.OURS], found[time_to_quality.DEEPMIND]
    plain = found[time_to_quality.HAIKU]
    assert ours == {"step_seconds": 0.1, "compile_seconds": pytest.approx(3.0)}
    assert deepminds == {"step_seconds": 0.4, "compile_seconds": pytest.approx(10.0)}
    assert plain == {"step_seconds": 3.0, "compile_seconds": pytest.approx(3.0)}
    assert taken == [1, 2, 3] + 2 * [1, 1, 2, 3]  # a turn lasts two seconds
    assert time_to_quality.step_times(config, own, theirs, data, tmp_path) == found
    assert len(taken) == 11
    again = replace(config, rounds=1)
    time_to_quality.step_times(again, own, theirs, data, tmp_path)
    assert len(taken) == 18


def test_the_best_is_the_soonest_then_the_highest():
    slow, high, low = ({**CURVE, "psnr": [10, 20, top]} for top in (26, 24.0, 23.0))
    fell = CURVE | {"psnr": [30.0, 1.0, 1.0], "fault": "training collapsed by step 15"}
    found = sorted([low, fell, CURVE, high, slow], key=lambda c: time_to_quality.order(c, 25.0))
    assert found == [CURVE, slow, high, low, fell]


@pytest.mark.parametrize("name", time_to_quality.PRESETS)
def test_deepminds_settings_keep_the_network_but_its_frequency(name):
    own = meta_train.PRESETS[time_to_quality.PRESETS[name].preset]
    theirs = time_to_quality.deepminds(own, 1e-4, 30.0)
    for setting in ("dataset", "width", "depth", "latent_dim", "grid", "modulation", "inner_steps"):
        assert getattr(theirs, setting) == getattr(own, setting)
    assert theirs.w0 == 30 and theirs.update == "rates" and theirs.optimizer == "adam"


def test_a_step_of_gradients_has_the_operations_of_eighteen_forward_passes():
    config = meta_train.PRESETS["digits"]
    shape = bench.Shape(config.width, config.depth, config.latent_dim, 8, 1, 1)
    found = loop.step_flops(config, shape, 64)
    assert found == 18 * loop.forward_flops(shape, 64) * config.batch_size
    cells = replace(meta_train.PRESETS["digits-spatial"], inner_points=8, outer_points=8)
    whole = loop.step_flops(replace(cells, inner_points=None, outer_points=None), shape, 64)
    assert loop.step_flops(cells, shape, 64) == whole / 2  # 8 of the 16 pixels of a cell


@pytest.mark.slow
def test_a_small_job_is_kept_and_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(time_to_quality, "RATES", (1e-3, 3e-3))
    flags = ["digits", "--steps", 20, "--tuning-steps", 20, "--own-steps", 20, "--rounds", 1]
    flags += [
        "--seeds",
        0,
        "--targets",
        9.0,
        "--every",
        10,
        "--out",
        tmp_path / "runs",
        "--results",
        tmp_path,
    ]

    def made():
        args = [str(flag) for flag in flags]
        cli.run(time_to_quality.main, time_to_quality.Config, time_to_quality.PRESETS, args=args)
        return json.loads((tmp_path / "time_to_quality_digits.json").read_text())

    first = made()
    monkeypatch.setattr(loop, "train", None)
    again = made()
    assert again["rows"] == first["rows"] and len(first["rows"]) == 3
    assert first["rate_at_end"] and first["rate"] in (1e-3, 3e-3) and first["w0"] in (20, 30)
    seconds = [row["seconds"]["mean"] for row in first["rows"]]
    assert np.isfinite(seconds).all() and min(seconds) > 0
    assert (tmp_path / "time_to_quality_digits.png").stat().st_size > 1000
