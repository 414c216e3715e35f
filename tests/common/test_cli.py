"""common.cli: presets and flags; every mistake is one line on stderr and exit code 2."""

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from common import cli
from common.errors import UserError
from common.runs import Stopping
from tests.refusals import refusal


@dataclass(frozen=True)
class Config:
    """A small command."""

    width: int = 8
    """Units in a layer."""
    rate: float | None = None
    """Step size; none learns it."""

    def __post_init__(self):
        if self.width <= 0:
            raise ValueError(f"--width {self.width}: must be positive")


@dataclass(frozen=True)
class Required:
    """A command with a required flag."""

    run: Path
    """Run folder."""


PRESETS = {"small": Config(), "large": Config(width=64, rate=0.1)}


def called(*args, main=lambda *found: found):
    return cli.run(main, Config, PRESETS, list(args))


@pytest.mark.parametrize(
    "args, expected",
    [
        ([], (Config(8, None), "small")),
        (["large"], (Config(64, 0.1), "large")),
        (["large", "--width", "3"], (Config(3, 0.1), "large")),
        (["--rate", "2"], (Config(8, 2.0), "small")),
        (["large", "--rate", "None"], (Config(64, None), "large")),
    ],
)
def test_flags_go_on_top_of_presets(args, expected):
    assert called(*args) == expected


MISTAKES = [
    (["larg"], "unknown preset 'larg'; did you mean large?"),
    (["xyz"], "unknown preset 'xyz'; presets: small, large"),
    (["--widht", "3"], "did you mean --width?"),
    (["--width", "many"], "many"),
    (["--width", "0"], "--width 0: must be positive"),
    (["small", "large"], "large"),
]


@pytest.mark.parametrize("args, message", MISTAKES)
def test_a_mistake_is_one_line(args, message, capsys):
    assert message in refusal(capsys, lambda: called(*args))


def test_a_mistake_has_no_frame_where_there_is_ascii_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(UserError) as refusal:
        cli.parse(Config, Config(), ["--width", "0"])
    assert str(refusal.value).endswith("--width 0: must be positive")
    assert "--- " not in str(refusal.value)


def test_a_missing_flag_is_one_line(capsys):
    assert "--run" in refusal(capsys, lambda: cli.run(lambda config: config, Required, args=[]))
    assert cli.run(lambda config: config, Required, args=["--run", "x"]).run == Path("x")


def test_what_the_work_refuses_is_one_line(capsys):
    def main(*_):
        raise UserError("no such set")

    assert refusal(capsys, lambda: called(main=main)) == "error: no such set\n"


def test_a_bug_keeps_its_traceback():
    def main(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        called(main=main)


def test_control_c_ends_with_130(capsys):
    def main(*_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        called(main=main)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "error: stopped; nothing was kept yet\n"


def test_control_c_names_what_is_kept(capsys, monkeypatch):
    def main(*_):
        monkeypatch.setattr(Stopping, "kept", "step 500 in runs/x")
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        called(main=main)
    said = capsys.readouterr().err
    assert said == "error: stopped; the same command goes on from step 500 in runs/x\n"


def test_help_shows_every_flag_with_its_meaning(capsys):
    with pytest.raises(SystemExit) as stop:
        called("large", "--help")
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "[small|large]" in said
    for text in ("Units in a layer.", "Step size; none learns it.", "default: 64"):
        assert text in said


def test_no_traceback_when_the_reader_has_gone():
    command = f"{sys.executable} -m functa_jax.meta_train --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python -m functa_jax.meta_train [digits|")
    assert done.stderr == ""
