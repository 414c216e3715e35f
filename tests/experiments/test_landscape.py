"""The landscape's experiment at tiny size."""

import pytest

from experiments import landscape as experiment
from groundfloor.runs import read_json
from optim_torch.landscape import __main__ as landscape

TINY = "--scale 0.2 --steps 30 --probe-every 10 --batch-size 32 --n-items 128 --device cpu"


@pytest.mark.slow
def test_the_experiment_keeps_table_and_pictures(tmp_path, in_this_process):
    config = experiment.Config(
        seeds=(0, 1), flags=TINY, out=tmp_path / "run", results=tmp_path / "results"
    )
    experiment.main(config, "digits")
    found = read_json(tmp_path / "results" / "landscape_digits.json")
    assert {row["seeds"] for row in found["table"]} == {2}
    pictures = {path.name for path in (tmp_path / "results").glob("*.png")}
    assert "landscape_digits_VGG_Beta_Smooth.png" in pictures and len(pictures) == 5


@pytest.mark.parametrize("name", experiment.PRESETS)
def test_its_presets_are_the_commands(name):
    assert (experiment.PRESETS[name].preset or name) in landscape.PRESETS
