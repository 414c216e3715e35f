"""The landscape's experiment at tiny size."""

import pytest

from experiments import landscape as experiment
from experiments import runner
from groundfloor import cli, plots
from groundfloor.runs import read_json
from optim_torch.landscape import __main__ as landscape

TINY = "--scale 0.1 --steps 4 --probe-every 2 --batch-size 16 --n-items 32 --device cpu"


@pytest.mark.slow
def test_the_experiment_keeps_table_and_pictures(tmp_path, monkeypatch):
    def finished(command, folder, threads=None):
        words = [*map(str, command[1:]), "--out", str(folder)]
        cli.run(landscape.main, landscape.Config, landscape.PRESETS, words)
        return read_json(folder / "summary.json")

    monkeypatch.setattr(runner, "finished", finished)
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
    config = experiment.Config((0, 1), TINY, tmp_path / "run", tmp_path / "results")
    experiment.main(config, "digits")
    found = read_json(tmp_path / "results" / "landscape_digits.json")
    assert {row["seeds"] for row in found["table"]} == {2}
    pictures = {path.name for path in (tmp_path / "results").glob("*.png")}
    assert "landscape_digits_VGG_Beta_Smooth.png" in pictures and len(pictures) == 6


@pytest.mark.parametrize("name", experiment.PRESETS)
def test_its_presets_are_the_commands(name):
    assert name in landscape.PRESETS
