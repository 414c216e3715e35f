"""The sweep's experiment, rehearsed at tiny size, and its GPU command lines read."""

import csv
import shlex

import pytest

from experiments import prune_sweep
from groundfloor import cli
from groundfloor.runs import read_json
from prune_torch import sweep

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
    flags = shlex.split(prune_sweep.PRESETS[name].flags)
    config = cli.parse(sweep.Config, sweep.PRESETS[name], flags)
    assert set(prune_sweep.PRESETS[name].taught) <= set(config.methods)
