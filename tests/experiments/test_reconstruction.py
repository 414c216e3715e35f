"""experiments.reconstruction gathers what the main job reached."""

import json
import shlex
import statistics

import pytest

from experiments import reconstruction, runner
from functa_jax import meta_train
from groundfloor import cli
from groundfloor.runs import Stopping

TINY = (
    "--images 40 --width 8 --depth 3 --steps 4 --batch-size 4 --eval-every 2 --dispatch 2 "
    "--warmup 0"
)


@pytest.mark.slow
def test_runs_become_a_table(tmp_path, capsys):
    config = reconstruction.Config(
        preset="digits",
        sizes=(4,),
        seeds=(0, 1),
        flags=TINY,
        out=tmp_path / "runs",
        results=tmp_path / "results",
    )
    reconstruction.main(config, "tiny")
    result = json.loads((tmp_path / "results" / "reconstruction_tiny.json").read_text())
    (row,) = result["table"]
    psnr = [run["test_psnr"] for run in result["runs"]]
    assert psnr[0] != psnr[1]
    assert row["test_psnr"] == statistics.mean(psnr)
    assert row["test_psnr_std"] == statistics.stdev(psnr)
    assert [run["seed"] for run in result["runs"]] == row["seeds"] == [0, 1]
    assert f"{row['test_psnr']:.2f} ± {row['test_psnr_std']:.2f} dB" in capsys.readouterr().out


def test_presets_ask_for_what_the_main_job_knows():
    for config in reconstruction.PRESETS.values():
        preset = meta_train.PRESETS[config.preset]
        parsed = cli.parse(meta_train.Config, preset, shlex.split(config.flags))
        assert parsed.dataset == preset.dataset
        assert (parsed != preset) == bool(config.flags)


def test_control_c_says_where_the_runs_of_an_experiment_are(tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stopping, "kept", None)
    monkeypatch.setattr(runner.subprocess, "run", stopped)
    words = ["digits", "--out", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as end:
        cli.run(reconstruction.main, reconstruction.Config, reconstruction.PRESETS, words)
    assert end.value.code == 130
    said = capsys.readouterr().err
    assert said.startswith("error: stopped; the same command goes on from")
    assert str(tmp_path / "runs") in said
