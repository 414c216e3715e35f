"""The study's experiment at tiny size."""

import pytest

from experiments import study as experiment
from groundfloor.runs import read_json
from optim_torch.study import __main__ as study
from optim_torch.study import insights

TINY = "--layers c4 p f8 --steps 4 --batch-size 16 --images 40 --surface 3 --device cpu --rates 1 "
TINY += "--axes widths --widths 0.5"


@pytest.mark.slow
def test_the_experiment_keeps_table_and_pictures(tmp_path, in_this_process, monkeypatch):
    monkeypatch.setattr(insights, "ASCENT_STEPS", 2)
    config = experiment.Config(
        seeds=(0, 1), flags=TINY, out=tmp_path / "run", results=tmp_path / "results"
    )
    experiment.main(config, "digits")
    found = read_json(tmp_path / "results" / "study_digits.json")
    assert [row["axis"] for row in found["table"]][:2] == ["base", "widths"]
    assert found["seeds"] == [0, 1]
    pictures = {path.name for path in (tmp_path / "results").glob("*.png")}
    assert "study_digits_surface.png" in pictures and len(pictures) == 9
    assert len((tmp_path / "results" / "study_digits.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize("name", experiment.PRESETS)
def test_its_presets_are_the_commands(name):
    assert (experiment.PRESETS[name].preset or name) in study.PRESETS
