"""experiments.runner: what a result file says of its making."""

from pathlib import Path

import pytest

from experiments import runner
from groundfloor import cli
from groundfloor.runs import read_json


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", ""),
        ("--out runs/x --seeds 0 1 --results=y --jobs 2", " --seeds 0 1"),
        ("--join runs/b /c/d --seeds 0 1", " --seeds 0 1"),
        ("--functaset /home/me/a.npz --steps 3", " --functaset a.npz --steps 3"),
    ],
)
def test_a_result_names_the_command_with_its_flags(tmp_path, monkeypatch, words, kept):
    monkeypatch.setattr(cli.Given, "words", tuple(words.split()))
    result = runner.write(tmp_path / "x.json", "pca", {"table": []})
    assert result["command"] == f"python -m experiments.pca{kept}"
    assert read_json(tmp_path / "x.json") == result


def test_a_result_names_the_oldest_code_of_its_runs(tmp_path):
    old, new = (
        {"commit": commit, "machine": "m", "finished": f"2026-11-{day}T00:00:00Z", "test": 1}
        for commit, day in (("a", 27), ("b", 28))
    )
    result = runner.write(tmp_path / "x.json", "pca", {"table": [2]}, [new, old])
    assert result["commit"] == "a" and result["table"] == [2] and "test" not in result
    assert runner.write(tmp_path / "x.json", "pca", {"commit": "c"}, [new])["commit"] == "c"
    assert runner.write(tmp_path / "x.json", "pca", {})["commit"] == runner.STARTED["commit"]


def test_flags_of_a_command_end_with_it():
    seen = []

    def main(config):
        seen.append(cli.Given.words)

    cli.run(main, runner.SeededConfig, args=["--seeds", "3"])
    assert seen == [("--seeds", "3")] and cli.Given.words == ()


def test_a_command_is_told_its_flags_its_seeds_and_what_it_joins():
    config = runner.PresetConfig(flags="--steps '3'", seeds=(0, 2))
    assert config.words() == ["--steps", "3", "--seeds", 0, 2]
    joined = runner.PresetConfig(seeds=(1,), join=(Path("a"), Path("b")))
    assert joined.words() == ["--seeds", 1, "--join", Path("a"), Path("b")]
