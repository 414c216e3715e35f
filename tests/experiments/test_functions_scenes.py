"""experiments.functions_scenes gathers novel views of several runs of the main job."""

import pytest

from experiments import functions_scenes
from functa_jax import meta_train
from groundfloor import cli


def test_runs_become_rows_by_given_views(capsys):
    runs = [
        {"novel_views": {"1": {"functa": x, "mean": 15.0}, "8": {"functa": x + 2, "mean": 15.0}}}
        for x in (18.0, 20.0)
    ]
    rows = functions_scenes.table(runs)
    assert [row["views"] for row in rows] == [1, 8]
    assert rows[1]["functa"] == {"mean": 21.0, "std": pytest.approx(2**0.5)}
    assert rows[0]["mean"] == {"mean": 15.0, "std": 0.0}
    functions_scenes.report({"data": "scenes", "numbers": 128, "rows": rows})
    assert "21.00 ± 1.41" in capsys.readouterr().out


def test_its_flags_are_flags_of_the_main_job():
    for config in functions_scenes.PRESETS.values():
        preset = meta_train.PRESETS[config.preset]
        parsed = cli.parse(meta_train.Config, preset, config.flags.split())
        assert parsed.dataset == "scenes" and parsed.latent_dim == 128
