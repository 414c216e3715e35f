"""kept: files and folders to resume from: whole or absent, replaced in order, not deleted
unread."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundfloor import kept
from groundfloor.errors import UserError
from groundfloor.pytorch import checkpoints
from groundfloor.runs import Stopping


class Files:
    suffix = ".pt"

    @staticmethod
    def save(folder, step, content, keep):
        kept.save(folder, step, content, ".pt", keep)

    @staticmethod
    def content(path):
        return path.read_bytes()


class Folders:
    suffix = ""

    @staticmethod
    def save(folder, step, content, keep):
        def write(made):
            (made / "deeper").mkdir()
            (made / "deeper" / "part").write_bytes(content)
            (made / "other").write_bytes(b"other")

        kept.save(folder, step, write, "", keep)

    @staticmethod
    def content(path):
        return (path / "deeper" / "part").read_bytes()


KINDS = pytest.mark.parametrize("kind", [Files, Folders])


def steps(folder):
    return [int(path.name[:10]) for path in sorted(folder.glob("[0-9]*"))]


def newest(kind, folder, say=print):
    """The content of the newest good one."""
    return kind.content(kept.newest(folder, kind.suffix, say)[0])


def damage(folder, step):
    for path in folder.glob(f"{step:010d}-*"):
        for file in [path] if path.is_file() else path.rglob("part"):
            file.write_bytes(b"")


@KINDS
@given(
    saved=st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True), keep=st.integers(1, 4)
)
def test_the_newest_remain(tmp_path_factory, kind, saved, keep):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    saved = sorted(saved)
    for step in saved:
        kind.save(folder, step, str(step).encode(), keep)
        assert newest(kind, folder) == str(step).encode()
    assert steps(folder) == saved[-keep:]


@KINDS
@given(
    course=st.lists(
        st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=12
    ),
    keep=st.integers(1, 3),
)
def test_a_run_that_goes_back_never_loses_what_it_just_saved(tmp_path_factory, kind, course, keep):
    """Steps in any order, some damaged after they were written, some with the same content."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for number, (step, spoilt, same) in enumerate(course):
        content = f"{step} at {0 if same else number}".encode()
        kind.save(folder, step, content, keep)
        (ours,) = folder.glob(f"{step:010d}-*")  # in place of another of this step
        assert kind.content(ours) == content
        if spoilt:
            damage(folder, step)


@KINDS
@given(good=st.dictionaries(st.integers(0, 9), st.booleans(), max_size=5), step=st.integers(0, 10))
def test_later_ones_are_forgotten_if_an_earlier_one_is_good(tmp_path_factory, kind, good, step):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for number in sorted(good):
        kind.save(folder, number, b"whole", 9)
        if not good[number]:
            damage(folder, number)
    kept.forget(folder, kind.suffix, step)
    earlier = [number for number in sorted(good) if number < step]
    goes = any(good[number] for number in earlier)
    assert steps(folder) == (earlier if goes else sorted(good))


@KINDS
def test_two_of_one_step_after_a_kill_are_told_apart_by_time(kind, tmp_path, monkeypatch):
    """A roll-back saves a step again; a kill may come before the old file is deleted."""
    for content in (b"a", b"b", b"c", b"d"):
        with monkeypatch.context() as killed:
            killed.setattr(kept, "_remove", lambda _: None)
            kind.save(tmp_path, 5, content, 2)
        assert newest(kind, tmp_path) == content
    assert steps(tmp_path) == [5] * 4


@KINDS
def test_damaged_ones_are_said_and_stay(kind, tmp_path):
    for step in (1, 2, 3):
        kind.save(tmp_path, step, bytes([step]), 3)
    damage(tmp_path, 3)
    said = []
    assert newest(kind, tmp_path, said.append) == bytes([2])
    assert len(said) == 1 and "0000000003" in said[0]
    damage(tmp_path, 2)
    damage(tmp_path, 1)
    with pytest.raises(UserError, match=r"no checkpoint in .* is good"):
        newest(kind, tmp_path, said.append)
    assert steps(tmp_path) == [1, 2, 3]


ALTERATIONS = {
    "a file missing": lambda path: (path / "other").unlink(),
    "an extra file": lambda path: (path / "deeper" / "extra").write_bytes(b""),
    "an empty folder more": lambda path: (path / "extra").mkdir(),
    "renamed": lambda path: (path / "other").rename(path / "another"),
    "elsewhere": lambda path: (path / "other").rename(path / "deeper" / "other"),
    "one bit": lambda path: (path / "other").write_bytes(b"othes"),
    "exchanged": lambda path: [
        (path / "other").write_bytes((path / "deeper" / "part").read_bytes()),
        (path / "deeper" / "part").write_bytes(b"other"),
    ],
    "a file instead": lambda path: [shutil.rmtree(path), path.write_bytes(b"")],
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_a_folder_is_whole_or_damaged(alter, tmp_path):
    for step in (1, 2):
        Folders.save(tmp_path, step, bytes([step]), 2)
    path, _ = kept.newest(tmp_path, "")
    alter(path)
    said = []
    assert newest(Folders, tmp_path, said.append) == bytes([1])
    assert said == [f"checkpoint {path.name} is damaged and was skipped"]


class Killed(BaseException):
    pass


@KINDS
@pytest.mark.parametrize(
    "moment", ["pathlib.Path.write_bytes", "pathlib.Path.replace", "shutil.rmtree"]
)
def test_what_a_kill_left_half_done_is_no_checkpoint_and_goes(kind, moment, tmp_path, monkeypatch):
    """While the first is written, while it is renamed, while an old one is deleted."""

    def kill(*_):
        raise Killed

    folder, old = tmp_path / "checkpoints", moment == "shutil.rmtree"
    if old:
        kind.save(folder, 1, b"old", 1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(moment, kill)
        if kind is Files:  # what atomic deletes as it ends stays after a kill
            patch.setattr("pathlib.Path.unlink", kill if old else lambda _: None)
        kind.save(folder, 2, b"new", 1)
    assert newest(kind, folder) == b"new" if old else kept.newest(folder, kind.suffix) is None
    kind.save(folder, 3, b"next", 1)
    (left,) = folder.iterdir()
    assert kind.content(left) == b"next"


def test_one_that_vanishes_while_they_are_sorted_is_one_line(tmp_path, monkeypatch):
    kept.save(tmp_path, 1, b"one", ".pt", 2)

    def gone(path, **_):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(type(tmp_path), "stat", gone)
    monkeypatch.setattr(type(tmp_path), "exists", lambda path: True)
    with pytest.raises(UserError, match=r"0000000001-.* cannot be read: No such file"):
        kept.newest(tmp_path, ".pt")


@KINDS
def test_nothing_was_kept(kind, tmp_path):
    (tmp_path / ".0000000001-0123456789abcdef.77.pt").write_bytes(b"half")
    (tmp_path / "..0000000001.77.orbax-checkpoint-tmp").mkdir()
    assert kept.newest(tmp_path, kind.suffix) is None
    assert kept.newest(tmp_path / "none", kind.suffix) is None


def test_ctrl_c_names_what_was_kept_but_not_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(Stopping, "kept", None)
    kept.save(tmp_path / "run" / "checkpoints", 0, b"", ".pt", 2)
    assert Stopping.kept is None
    kept.save(tmp_path / "run" / "checkpoints", 1500, b"", ".pt", 2)
    assert Stopping.kept == f"step 1,500 in {tmp_path / 'run'}"


@pytest.mark.parametrize("junk", [b"h" + 9 * b"\n", b"j" + 9 * b"\n", b"none", b""])
def test_junk_is_no_checkpoint(junk, tmp_path):
    path = tmp_path / "network.pt"
    path.write_bytes(junk)
    with pytest.raises(UserError, match=r"network\.pt is damaged or not a checkpoint"):
        checkpoints.read(path, "cpu")
