"""Checkpoints of a training: damaged, unreadable and foreign ones, full disks, orbax's format."""

import errno
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from functa_jax.training.checkpoints import Checkpoints
from groundfloor import kept
from groundfloor.errors import UserError
from groundfloor.runs import Stopping, read_rows
from tests.functa_jax.training.tiny import START, assert_same, checkpoints_of, trained


def largest(checkpoint):
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(checkpoint):
    data = bytearray(largest(checkpoint).read_bytes())
    data[len(data) // 2] ^= 1
    largest(checkpoint).write_bytes(data)


def cut(checkpoint):
    data = largest(checkpoint).read_bytes()
    largest(checkpoint).write_bytes(data[: len(data) // 2])


SPOILT = {
    "one bit": flip_a_bit,
    "cut": cut,
    "empty": lambda checkpoint: largest(checkpoint).write_bytes(b""),
    "a file missing": lambda checkpoint: largest(checkpoint).unlink(),
    "an extra file": lambda checkpoint: (checkpoint / "extra").write_bytes(b""),
    "all files missing": lambda checkpoint: [shutil.rmtree(checkpoint), checkpoint.mkdir()],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_checkpoint_is_said_and_skipped(spoil, finished):
    newest, said = checkpoints_of(finished)[-1], []
    spoil(newest)
    state = Checkpoints(finished / "checkpoints").restore(START, said.append)
    assert state["step"] == 8
    assert said == [f"checkpoint {newest.name} is damaged and was skipped"]


def test_damaged_newest_checkpoint_falls_back_and_ends_the_same(whole, finished, capsys):
    folder = finished
    before = checkpoints_of(folder)
    flip_a_bit(before[-1])
    capsys.readouterr()
    assert_same(trained(folder), whole[0])
    said = capsys.readouterr().out
    assert f"checkpoint {before[-1].name} is damaged and was skipped" in said
    assert "resuming from the checkpoint at step 8" in said
    assert [row["step"] for row in read_rows(folder / "metrics.jsonl")] == [3, 4, 7, 8, 11, 12]
    after = checkpoints_of(folder)
    assert [path.name[:10] for path in after] == ["0000000004", "0000000008", "0000000012"]
    state = Checkpoints(folder / "checkpoints").restore(START)
    assert state["step"] == 12  # the good one has taken the place of the damaged one


def restored(folder):
    return Checkpoints(folder / "checkpoints").restore(START)


def nothing_changes(folder, message, work=restored):
    """Work from these checkpoints is refused in one line, and leaves every file as it was."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message) as refusal:
        work(folder)
    assert "\n" not in str(refusal.value)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_nothing_is_deleted_if_no_checkpoint_is_good(finished):
    for path in checkpoints_of(finished):
        cut(path)
    nothing_changes(finished, "no checkpoint in .* is good; move them away", trained)


def test_checkpoints_of_another_layout_stay(finished):
    for path in checkpoints_of(finished):
        shutil.rmtree(path)
    (finished / "checkpoints" / "12").mkdir()
    (finished / "checkpoints" / "12" / "state").write_text("of another version")
    nothing_changes(finished, "no checkpoint in .* is good")


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
        OSError(errno.EIO, os.strerror(errno.EIO)),
        MemoryError(),
    ],
    ids=lambda error: getattr(error, "strerror", None) or "memory",
)
@pytest.mark.parametrize("method", ["read_bytes", "iterdir"])  # of the file, of its folder
def test_a_checkpoint_that_cannot_be_read_is_not_passed_over(error, method, finished, monkeypatch):
    plain = getattr(Path, method)

    def failing(path):
        if "checkpoints" in str(path):
            raise error
        return plain(path)

    monkeypatch.setattr(Path, method, failing)
    reason = error.strerror if isinstance(error, OSError) else "out of memory"
    with pytest.raises(UserError, match=f"cannot be read: {reason}"):
        restored(finished)
    monkeypatch.undo()
    assert len(checkpoints_of(finished)) == 3
    assert len(read_rows(finished / "metrics.jsonl")) == 6


CHANGES = {
    "a new array": lambda state: state | {"new": np.zeros(3)},
    "one less": lambda state: {k: v for k, v in state.items() if k != "damping"},
    "64 bits": lambda state: jax.tree.map(
        lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, state
    ),
    "another shape": lambda state: state | {"damping": np.ones(2, np.float32)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_whole_checkpoint_with_other_arrays_is_refused_by_name(change, finished):
    checkpoints = Checkpoints(finished / "checkpoints")
    state = checkpoints.restore(START)
    checkpoints.save(change(state) | {"step": np.int32(13)})
    message = "was written by another version: (new|damping|best|ema/.*) is .* there, .* here"
    nothing_changes(finished, message)


@pytest.mark.parametrize("name", ["run", "thesis [2024]", "a*b?", "{ü} %20#"])
def test_a_checkpoint_is_what_was_saved(tmp_path, name):
    checkpoints = Checkpoints(tmp_path / name / "checkpoints")
    assert checkpoints.restore(START) is None
    random = np.random.default_rng(0)
    state = jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), START)
    state = {**state, "step": np.array(1234, np.int32), "best": np.array(-np.inf, np.float32)}
    for holder in (checkpoints, Checkpoints(None)):
        holder.save(state)
        jax.tree.map(np.testing.assert_array_equal, holder.restore(START), state)
    assert Stopping.kept == f"step 1,234 in {tmp_path / name}"


def test_a_checkpoint_is_orbax_own_format(finished):
    """Whoever has orbax reads it without us, as the arrays of NumPy that were saved."""
    found = ocp.StandardCheckpointer().restore(checkpoints_of(finished)[-1].absolute())
    ours = Checkpoints(finished / "checkpoints").restore(START)
    assert found["step"] == 12
    for name in ("params", "ema"):
        theirs, mine = jax.tree.leaves(found[name]), jax.tree.leaves(ours[name])
        assert len(theirs) == len(mine) and all(type(leaf) is np.ndarray for leaf in theirs)
        jax.tree.map(np.testing.assert_array_equal, theirs, mine)


def test_a_whole_folder_that_is_no_checkpoint_is_refused(finished):
    """Its digest is right: another program, or another version of orbax, wrote it."""
    kept.save(finished / "checkpoints", 13, lambda path: (path / "a").write_text("a"), "", 9)
    nothing_changes(finished, r"0000000013-\w* (cannot be read|is no checkpoint)")


def test_a_disk_that_takes_no_more_is_said_in_one_line(finished, capfd):
    """By groundfloor.runs.atomic, not by tensorstore; what was half written goes."""
    resource = pytest.importorskip("resource")
    checkpoints = Checkpoints(finished / "checkpoints")
    state = checkpoints.restore(START)
    state = {**state, "step": np.int32(13)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match=os.strerror(errno.EFBIG)):
            checkpoints.save(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr() == ("", "")
    assert checkpoints.restore(START)["step"] == 12
    checkpoints.save(state)
    assert checkpoints.restore(START)["step"] == 13
    assert len(list((finished / "checkpoints").iterdir())) == 3
