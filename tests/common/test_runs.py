"""common.runs: files whole or absent, run folders that refuse other settings, plain progress."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.runs import Progress, Run, atomic, duration, read_json, read_rows, write_json

CONFIG = {"width": 8, "rates": (0.0, 1.0), "name": None}


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
    Run(folder, CONFIG).log(step=1)
    assert Run(folder, CONFIG).rows() == [{"step": 1}]
    with pytest.raises(UserError) as refusal:
        Run(folder, {**CONFIG, "width": 16, "depth": 3})
    message = str(refusal.value)
    assert "width 8 -> 16" in message
    assert "depth None -> 3" in message
    assert "rates" not in message
    assert "\n" not in message


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(UserError, match="not a run folder and not empty"):
        Run(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write in"):
        Run(tmp_path / "file" / "run", CONFIG)


@given(st.lists(st.integers(0, 9)), st.integers(0, 9), st.integers(1, 8))
def test_rows_survive_a_cut_and_later_ones_are_forgotten(tmp_path_factory, steps, last, cut):
    run = Run(tmp_path_factory.mktemp("run") / "run", CONFIG)
    for step in [*steps, 5]:
        run.log(step=step, psnr=0.5)
    text = run.metrics_path.read_text()
    run.metrics_path.write_text(text[:-1][:-cut])  # a kill in the last line
    expected = [{"step": step, "psnr": 0.5} for step in steps]
    assert read_rows(run.metrics_path) == expected
    run.forget_after(last)
    assert run.rows() == [row for row in expected if row["step"] <= last]


def test_rows_of_a_run_that_has_none(tmp_path):
    assert Run(tmp_path / "run", CONFIG).rows() == []


def test_a_summary_says_from_what_it_was_made(tmp_path):
    run = Run(tmp_path / "run", CONFIG)
    assert run.summary() is None
    run.write_summary(psnr=31.5)
    summary = run.summary()
    assert summary["psnr"] == 31.5
    assert {"commit", "versions", "machine", "finished"} <= set(summary)
    assert {"python", "numpy", "jax", "torch"} <= set(summary["versions"])
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
