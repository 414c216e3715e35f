"""cli: presets and flags; every mistake is one line on stderr and exit code 2."""

import errno
import importlib
import io
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path

import pytest

from groundfloor import cli
from groundfloor.checks import Count, Seed, Settings
from groundfloor.data.config import DataConfig
from groundfloor.errors import UserError
from groundfloor.runs import Stopping
from tests import commands
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


def test_a_message_is_one_line_whatever_it_quotes(capsys):
    def main(*_):
        raise UserError("a\nb.npz does not exist")

    assert refusal(capsys, lambda: called(main=main)) == "error: a b.npz does not exist\n"


def test_a_missing_flag_is_one_line(capsys):
    assert "--run" in refusal(capsys, lambda: cli.run(lambda config: config, Required, args=[]))
    assert cli.run(lambda config: config, Required, args=["--run", "x"]).run == Path("x")


@dataclass(frozen=True)
class LoopConfig(Settings):
    """The loop."""

    steps: Count = 5
    """Steps of the loop."""
    seed: Seed = 0
    """Seed of the order."""


@dataclass(frozen=True)
class Parts(LoopConfig, Required):
    """A command in parts."""

    seed: Seed = 7
    """Seed of all."""
    tags: list[str] = field(default_factory=list)
    """Words about it."""


def test_a_config_in_parts_is_flat_with_its_flags_in_groups(capsys):
    expected = Parts(run=Path("x"), steps=3, seed=7, tags=["a", "b"])
    flags = ["--tags", "a", "b", "--run", "x", "--steps", "3"]
    assert cli.run(lambda config: config, Parts, args=flags) == expected
    words = ["--run", "x", "--steps", "0"]
    assert "--steps 0" in refusal(capsys, lambda: cli.run(print, Parts, args=words))
    with pytest.raises(SystemExit):
        cli.parse(Parts, None, ["--help"])
    _, required, loop, command = re.split(r"\w+ options", capsys.readouterr().out)[-4:]
    assert "--run" in required and "--steps" in loop and "--seed" not in loop
    assert "Seed of all. (default: 7)" in command and "--tags" in command


def test_two_parts_of_one_title_keep_all_their_flags():
    @dataclass(frozen=True)
    class Command(Parts):
        """Another command, by the title of the first."""

        more: int = 1

    @dataclass(frozen=True)
    class Config(Command):
        last: int = 2

    words = ["--run", "x", "--more", "3", "--last", "4"]
    config = cli.parse(Config, None, words)
    assert (config.more, config.last, config.steps) == (3, 4, 5)


def test_what_the_work_refuses_is_one_line(capsys):
    def main(*_):
        raise UserError("no such set")

    assert refusal(capsys, lambda: called(main=main)) == "error: no such set\n"


def test_a_line_break_in_a_files_name_is_still_one_line(capsys):
    def main(*_):
        raise UserError("a\nb.png is damaged")

    assert refusal(capsys, lambda: called(main=main)) == "error: a b.png is damaged\n"


def test_a_bug_keeps_its_traceback():
    def main(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        called(main=main)


def test_a_place_of_another_user_is_one_line(capsys):
    def main(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "/root/runs/x")

    with pytest.raises(SystemExit) as stop:
        called(main=main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: /root/runs/x: Permission denied\n"


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


ENCODINGS = ("cp1252", "utf-8")


def test_help_shows_every_flag_with_its_meaning(capsys):
    with pytest.raises(SystemExit) as stop:
        called("large", "--help")
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "[small|large]" in said
    for text in ("Units in a layer.", "Step size; none learns it.", "default: 64"):
        assert text in said


@pytest.mark.parametrize(
    ("name", "encoding"),
    # What ASCII can show, all can.
    [*((name, "ascii") for name in commands.NAMES), *product(commands.NAMES[:1], ENCODINGS)],
)
def test_help_of_every_command_in_every_encoding(name, encoding, monkeypatch):
    module = importlib.import_module(name)
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as stop:
        cli.run(module.main, module.Config, commands.presets(module), ["--help"])
    assert not stop.value.code
    stream.seek(0)
    said = re.sub(r"\s+", " ", stream.read())
    assert "usage:" in said
    shown = [f"--{field.name.replace('_', '-')}" for field in fields(module.Config)]
    assert sum(flag in said for flag in shown) >= len(shown) - 1  # but for what has no flag


def test_a_table_in_greek_on_a_stream_that_cannot_show_it():
    code = (
        "from dataclasses import dataclass; from groundfloor import cli\n"
        "@dataclass\nclass Config:\n    pass\n"
        "cli.run(lambda config: print('\\u03b2 0.5 \\xb1 0.1'), Config, args=[])"
    )
    for encoding, shown in (("ascii", "? 0.5 ? 0.1"), ("cp1252", "? 0.5 ± 0.1"), ("utf8", None)):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
        assert done.stdout.decode(encoding).strip() == (shown or "β 0.5 ± 0.1")


def test_no_traceback_when_the_reader_has_gone():
    command = f"{sys.executable} -m functa_jax.meta_train --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python -m functa_jax.meta_train [digits|")
    assert done.stderr == ""


SWALLOWED = """
import time
from dataclasses import dataclass
from groundfloor import cli
from groundfloor.checks import Count, Seed, Settings
@dataclass
class Config:
    x: int = 0
def main(_):
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            {answer}
cli.GRACE = 1
cli.run(main, Config)
"""


@pytest.mark.parametrize("answer", ["pass", "raise RuntimeError('INTERNAL: callback failed')"])
def test_control_c_ends_a_command_whose_libraries_swallow_it(answer):
    process = subprocess.Popen(
        [sys.executable, "-c", SWALLOWED.format(answer=answer)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "error: stopped; nothing was kept yet\n"
    assert process.returncode == 130


def test_help_of_an_overridden_default_is_inherited_and_lines_run_on(capsys):
    @dataclass(frozen=True)
    class Photos(DataConfig):
        """A data set."""

        dataset: str = "photos"

    with pytest.raises(SystemExit):
        cli.parse(Photos, None, ["--help"])
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert "or the path of a folder of images or of a .npy or .npz file. (default: photos)" in words
