"""runs: files whole or absent, run folders that refuse other settings, plain progress."""

import errno
import json
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundfloor.errors import UserError
from groundfloor.runs import (
    Progress,
    Run,
    atomic,
    content_hash,
    duration,
    read_json,
    read_rows,
    write_json,
)

CONFIG = {"width": 8, "rates": (0.0, 1.0), "name": None}


def opened(folder, settings=CONFIG, **options):
    return Run(folder, settings, **{"data_fingerprint": "aa", **options})


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    for text in ("old", "new"):
        with atomic(path) as temporary:
            temporary.write_text(text)
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_missing_and_damaged_json_are_named(tmp_path):
    path = tmp_path / "value.json"
    with pytest.raises(UserError, match=r"value\.json does not exist"):
        read_json(path)
    path.write_text('{"a": 1')
    with pytest.raises(UserError, match=r"value\.json is damaged"):
        read_json(path)


def test_the_same_settings_resume_and_others_are_refused_by_name(tmp_path):
    folder = tmp_path / "run"
    opened(folder).log(step=1)
    assert opened(folder).rows() == [{"step": 1}]
    with pytest.raises(UserError) as refusal:
        opened(folder, {**CONFIG, "width": 16, "depth": 3})
    message = str(refusal.value)
    assert "width 8 -> 16" in message
    assert "depth None -> 3" in message
    assert "rates" not in message
    assert "\n" not in message


def test_other_images_and_other_files_are_refused_wherever_they_lie(tmp_path):
    weights, moved = tmp_path / "w.pth", tmp_path / "moved.pth"
    weights.write_bytes(b"one")
    opened(tmp_path / "run", files={"weights": weights, "ticket": None})
    weights.rename(moved)
    assert (
        opened(tmp_path / "run", files={"weights": moved, "ticket": None}).config["ticket"] is None
    )
    with pytest.raises(UserError, match="made from other images"):
        opened(tmp_path / "run", files={"weights": moved, "ticket": None}, data_fingerprint="bb")
    moved.write_bytes(b"two")
    with pytest.raises(UserError, match=r"weights .* -> "):
        opened(tmp_path / "run", files={"weights": moved, "ticket": None})
    with pytest.raises(UserError, match=r"gone\.pth does not exist"):
        opened(tmp_path / "run", files={"weights": tmp_path / "gone.pth"})


def test_settings_that_an_older_run_did_not_have_count_as_their_defaults(tmp_path):
    opened(tmp_path / "run")
    new = {**CONFIG, "map_size": 1}
    assert opened(tmp_path / "run", new, defaults={"map_size": 1}).config["map_size"] == 1
    with pytest.raises(UserError, match="map_size 1 -> 3"):
        opened(tmp_path / "run", {**new, "map_size": 3}, defaults={"map_size": 1})


@dataclass(frozen=True)
class Config:
    width: int = 8
    weights: Path | None = None
    device: str = "cpu"
    name: str = ""
    out: Path | None = None


def test_a_command_opens_its_run_by_its_settings_its_files_and_its_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_bytes(b"one")
    images = SimpleNamespace(fingerprint="aa")
    options = {"not_identity": ("device", "name", "out"), "files": ("weights",)}
    run = Run.of("train", "small", Config(weights=Path("w"), name="x"), images, **options)
    assert run.folder == Path("runs/train-small-x")
    assert run.config == {
        "width": 8,
        "weights": content_hash(tmp_path / "w"),
        "data_fingerprint": "aa",
    }
    same = Config(weights=tmp_path / "w", device="cuda", out=run.folder)
    assert Run.of("train", "small", same, images, **options).config == run.config


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    run = opened(tmp_path / "run")
    for step in range(3):
        run.log(step=step)
    lines = run.metrics_path.read_text().splitlines(keepends=True)
    run.metrics_path.write_text(lines[0] + lines[1][:-4] + "\n" + lines[2])
    with pytest.raises(UserError, match="damaged in line 2"):
        run.rows()


def test_a_second_command_in_a_run_folder_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / "run"
    code = (
        "import sys, time; from groundfloor.runs import Run;"
        "run = Run(sys.argv[1], {}, data_fingerprint='aa'); print('open', flush=True);"
        "time.sleep(600)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "open\n"
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(UserError, match=r"another command is at work in .*run") as refusal:
            opened(folder, {})
        with pytest.raises(UserError, match="at work"):  # the first refusal is still at hand
            opened(folder, {})
        assert "\n" not in str(refusal.value)
        assert sorted(path.name for path in folder.iterdir()) == before
    finally:
        first.kill()  # SIGKILL
        first.communicate()
    assert opened(folder, {}).lock is opened(folder, {}).lock  # one process may open it twice


def test_a_moved_data_set_is_the_same_and_another_is_not(tmp_path):
    opened(tmp_path / "run", {"dataset": "/here/cats"})
    opened(tmp_path / "run", {"dataset": "/there/cats"})
    with pytest.raises(UserError, match="/there/cats"):
        opened(tmp_path / "run", {"dataset": "/there/cats"}, data_fingerprint="bb")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_and_a_limit_are_one_line(tmp_path, number):
    with (
        pytest.raises(UserError, match=r"cannot write .*value"),
        atomic(tmp_path / "value") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(number, "as the system says")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(UserError, match="not a run folder and not empty"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_kill_left_of_the_first_file_does_not_lock_the_folder(tmp_path):
    class Killed(BaseException):
        pass

    with pytest.raises(Killed), atomic(tmp_path / "config.json") as temporary:
        temporary.write_text("{")
        temporary.with_name("copy").write_bytes(temporary.read_bytes())
        raise Killed
    (tmp_path / "copy").rename(temporary)  # as after kill -9, which runs no clean-up
    assert opened(tmp_path).folder == opened(tmp_path).folder == tmp_path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_ends_the_log_in_one_line(tmp_path):
    run = opened(tmp_path)
    run.metrics_path.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: No space left"):
        run.log(step=1)


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*: Not a directory"):
        opened(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot write"):
        write_json(tmp_path / "file" / "deep" / "x.json", {})


def test_a_full_disk_is_one_line_and_other_faults_of_files_are_not(tmp_path):
    with (
        pytest.raises(UserError, match=r"cannot write .*x\.bin: No space left"),
        atomic(tmp_path / "x.bin") as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "x.bin"):
        (tmp_path / "other").read_bytes()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    for read in (read_json, read_rows):
        with pytest.raises(UserError, match="cannot be read: Is a directory"):
            read(tmp_path)


@given(st.lists(st.integers(0, 9)), st.integers(0, 9), st.integers(1, 8))
def test_rows_survive_a_cut_and_later_ones_are_forgotten(tmp_path_factory, steps, last, cut):
    run = opened(tmp_path_factory.mktemp("run") / "run")
    for step in [*steps, 5]:
        run.log(step=step, psnr=0.5)
    text = run.metrics_path.read_text()
    run.metrics_path.write_text(text[:-1][:-cut])  # a kill in the last line
    expected = [{"step": step, "psnr": 0.5} for step in steps]
    assert read_rows(run.metrics_path) == expected
    run.forget_after(last)
    assert run.rows() == [row for row in expected if row["step"] <= last]


@given(st.integers(1, 12))
def test_a_resumed_run_appends_after_a_cut_row(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("run") / "run"
    run = opened(folder)
    run.log(step=1)
    run.log(step=2)
    path = run.metrics_path
    path.write_bytes(path.read_bytes()[:-cut])  # a kill in the last line
    again = opened(folder)
    again.log(step=3)
    assert again.rows() == [{"step": 1}, {"step": 3}]


def test_a_resumed_run_names_the_code_that_it_began_with(tmp_path):
    run = opened(tmp_path / "run")
    path = run.folder / "environment.json"
    write_json(path, run.environment | {"commit": "0" * 40})
    assert opened(run.folder).environment["commit"] == "0" * 40
    path.unlink()  # of a run from before
    assert opened(run.folder).environment["commit"] == run.environment["commit"]


def test_rows_of_a_run_that_has_none(tmp_path):
    assert opened(tmp_path / "run").rows() == []


def test_a_summary_says_from_what_it_was_made(tmp_path):
    run = opened(tmp_path / "run")
    assert run.summary() is None
    run.write_summary(psnr=31.5)
    summary = run.summary()
    assert summary["psnr"] == 31.5
    assert {"commit", "versions", "machine", "finished"} <= set(summary)
    assert {"python", "numpy", "jax", "torch"} <= set(summary["versions"])
    assert re.fullmatch(r"\S.*, \d+ cores", summary["machine"])
    assert json.loads((run.folder / "summary.json").read_text()) == summary


def test_progress_counts_in_plain_lines(capsys):
    with Progress(1000, "step", start=200, seconds=0) as progress:
        progress.advance(300, psnr="31.2 dB")
        progress.say("checkpoint written")
        progress.advance(500)
    first, said, last = capsys.readouterr().out.splitlines()
    assert first.startswith("500/1,000 steps, ")
    assert first.endswith(", psnr 31.2 dB")
    assert said == "checkpoint written"
    assert last.startswith("1,000/1,000 steps, ")
    assert " 0 s left" in last


def test_progress_is_quiet_in_between(capsys):
    with Progress(3, "step", seconds=1000) as progress:
        for _ in range(3):
            progress.advance(1)
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_a_notebook_has_a_bar(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's, without ipywidgets
        with Progress(3, "step", seconds=0) as progress:
            progress.advance(3, psnr="31.2 dB")
    shown = capsys.readouterr()
    assert "3/3" in shown.err and "psnr=31.2 dB" in shown.err and not shown.out
