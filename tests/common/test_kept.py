"""common.kept: files to resume from: whole or absent, replaced in order, not deleted unread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import kept
from common.errors import UserError
from common.runs import Stopping


def steps(folder):
    return [int(path.name[:10]) for path in sorted(folder.glob("*.pt"))]


def damage(folder, step):
    for path in folder.glob(f"{step:010d}-*"):
        path.write_bytes(b"")


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True), st.integers(1, 4))
def test_the_newest_remain(tmp_path_factory, saved, keep):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    saved = sorted(saved)
    for step in saved:
        kept.save(folder, step, str(step).encode(), ".pt", keep)
        assert kept.newest(folder, ".pt")[1] == str(step).encode()
    assert steps(folder) == saved[-keep:]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 3),
)
def test_a_run_that_goes_back_never_loses_what_it_just_saved(tmp_path_factory, course, keep):
    """Steps in any order, some damaged after they were written."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for number, (step, spoilt) in enumerate(course):
        content = f"{step} at {number}".encode()
        kept.save(folder, step, content, ".pt", keep)
        (ours,) = folder.glob(f"{step:010d}-*")  # in place of another of this step
        assert ours.read_bytes() == content
        if spoilt:
            damage(folder, step)


def test_two_of_one_step_after_a_kill_are_told_apart_by_time(tmp_path, monkeypatch):
    """A roll-back saves a step again; a kill may come before the old file is deleted."""
    for content in (b"a", b"b", b"c", b"d"):
        with monkeypatch.context() as killed:
            killed.setattr("pathlib.Path.unlink", lambda *_, **__: None)
            kept.save(tmp_path, 5, content, ".pt", 2)
        assert kept.newest(tmp_path, ".pt")[1] == content
    assert steps(tmp_path) == [5] * 4


def test_damaged_ones_are_said_and_stay(tmp_path):
    for step in (1, 2, 3):
        kept.save(tmp_path, step, bytes([step]), ".pt", 3)
    damage(tmp_path, 3)
    said = []
    assert kept.newest(tmp_path, ".pt", said.append)[1] == bytes([2])
    assert len(said) == 1 and "0000000003" in said[0]
    damage(tmp_path, 2)
    damage(tmp_path, 1)
    with pytest.raises(UserError, match=r"no checkpoint in .* is good"):
        kept.newest(tmp_path, ".pt", said.append)
    assert steps(tmp_path) == [1, 2, 3]


def test_a_half_written_file_is_no_checkpoint(tmp_path):
    (tmp_path / ".0000000001-0123456789abcdef.77.pt").write_bytes(b"half")
    assert kept.newest(tmp_path, ".pt") is None
    assert kept.newest(tmp_path / "none", ".pt") is None


def test_ctrl_c_names_what_was_kept_but_not_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(Stopping, "kept", None)
    kept.save(tmp_path / "run" / "checkpoints", 0, b"", ".pt", 2)
    assert Stopping.kept is None
    kept.save(tmp_path / "run" / "checkpoints", 1500, b"", ".pt", 2)
    assert Stopping.kept == f"step 1,500 in {tmp_path / 'run'}"
