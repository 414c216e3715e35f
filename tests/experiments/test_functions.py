"""experiments.functions gathers what the main job reached on functions."""

import json
import statistics

import numpy as np
import pytest

from experiments import functions
from functa_jax import meta_train
from functa_jax.modalities.loading import COMPUTED
from groundfloor import cli
from groundfloor.data.functions import lattice_points

TINY = (
    "--width 8 --depth 3 --latent-dim 4 --steps 4 --batch-size 4 --eval-every 2 --dispatch 2 "
    "--warmup 0 --inner-points 8 --outer-points 8"
)


@pytest.mark.slow
def test_runs_become_a_table(tmp_path, capsys):
    random, labels = np.random.default_rng(0), np.arange(150) % 3
    values = labels[:, None, None] / 4 + 0.2 * random.random((150, 12, 1))
    path = tmp_path / "lines.npz"
    np.savez(path, values=values, coords=lattice_points(12), labels=labels)
    config = functions.Config(
        preset="sphere",
        flags=f"{TINY} --fit-points None --dataset {path}",
        seeds=(0, 1),
        out=tmp_path / "runs",
        results=tmp_path / "results",
    )
    functions.main(config, "tiny")
    result = json.loads((tmp_path / "results" / "functions_tiny.json").read_text())
    ours, pca = result["rows"]
    metrics = [run["test_metric"] for run in result["runs"]]
    assert metrics[0] != metrics[1] and ours["metric"]["mean"] == statistics.mean(metrics)
    assert ours["metric"]["std"] == pytest.approx(statistics.stdev(metrics))
    assert pca["kind"] == "PCA" and pca["metric"]["std"] is None
    assert pca["accuracy"]["mean"] > 0.9
    assert "PCA" in capsys.readouterr().out
    for name in ("functions_tiny.png", "functions_tiny_interpolation.png"):
        assert (tmp_path / "results" / name).exists()


def test_presets_ask_for_what_the_main_job_knows():
    for name, config in functions.PRESETS.items():
        preset = meta_train.PRESETS[config.preset]
        parsed = cli.parse(meta_train.Config, preset, config.flags.split())
        assert parsed.dataset == name and name in COMPUTED
