"""experiments.imagenet multiplies what it measured, and its commands are ones that exist."""

import shlex

import pytest

from experiments import imagenet, runner
from functa_jax import export, meta_train
from groundfloor import cli
from groundfloor.runs import read_json

ROW = {"device_batch": 2, "step_seconds": 3.0, "fit_seconds_an_image": 0.5, "parameters": 10**6}


def test_the_whole_is_steps_times_their_seconds():
    found = imagenet.multiplied(ROW, imagenet.Config(epochs=10))
    assert found["batch"] == 128 and found["steps"] == 10 * 1_281_167 // 128
    assert found["training_hours"] == pytest.approx(found["steps"] * 3 / 3600)
    assert found["export_hours"] == pytest.approx(1_281_167 / 64 * 0.5 / 3600)
    assert found["read_megabytes_a_second_and_host"] == pytest.approx(16 * 196_608 / 3 / 1e6)
    assert found["gradient_megabytes_a_step"] == 4


def test_its_commands_are_taken():
    preset, *train = shlex.split(imagenet.TRAIN.format(batch=512))[3:]
    flags = shlex.split(imagenet.CLUSTER)[:6]
    default = meta_train.PRESETS[preset]
    settings = cli.parse(meta_train.Config, default, [*train, *flags])
    assert (settings.grid, settings.latent_dim, settings.processes) == (32, 64, 8)
    cli.parse(export.Config, None, [*shlex.split(imagenet.EXPORT)[3:], *flags])


@pytest.mark.slow
def test_a_small_one_is_measured(tmp_path):
    words = ["--side", "32", "--width", "8", "--rounds", "1", "--results", str(tmp_path)]
    cli.run(imagenet.main, imagenet.Config, args=words)
    *known, row = read_json(tmp_path / "imagenet.json")["rows"]
    assert known == read_json(runner.RESULTS / "imagenet.json")["rows"]
    assert row["step_seconds"] > 0 and row["fit_seconds_an_image"] > 0
    assert row["step_gigabytes"] > 0 and row["parameters"] > 8 * 64


def test_a_device_has_one_row_the_newest(tmp_path, monkeypatch):
    for device, seconds in (("one core", 2.0), ("H100", 1.0), ("one core", 3.0)):
        row = {**ROW, "device": device, "step_seconds": seconds}
        monkeypatch.setattr(imagenet, "measured", lambda _, row=row: row)
        imagenet.main(imagenet.Config(results=tmp_path))
    rows = read_json(tmp_path / "imagenet.json")["rows"]
    assert [(row["device"], row["step_seconds"]) for row in rows] == [("H100", 1), ("one core", 3)]
