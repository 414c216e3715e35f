"""decoded: pixels kept between runs are those of the files, or are not used."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from groundfloor.data import tfds_folder
from groundfloor.data.datasets import load
from tests.tfds import fault, labelled, rewrite, same, shard, write_shard, write_small


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of decoded pixels, for sets of 50 images and more, and a list of what is read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds_folder, "CACHE_FROM", 50)
    done, decode = [], tfds_folder._decode
    monkeypatch.setattr(tfds_folder, "_decode", lambda *a: done.append(1) or decode(*a))
    return tmp_path / "cache" / "functa" / "decoded", done


def test_they_are_used_renewed_and_never_trusted(tmp_path, kept):
    place, done = kept
    folder = write_small(tmp_path)
    first = load("small", tmp_path, val_fraction=0.25)
    (path,) = place.iterdir()  # no temporary file left
    foreign = io.BytesIO()
    np.savez(foreign, train_images=np.zeros((3, 8, 8)), num_classes=2)
    for damage in (
        lambda b: b[:-50],
        lambda b: b[:3000] + b"no" + b[3002:],
        lambda b: b"",
        lambda b: foreign.getvalue(),
    ):
        done.clear()
        again = load("small", tmp_path, val_fraction=0.25)
        assert not done and again.fingerprint == first.fingerprint
        assert same(again.val, first.val) and again.num_classes == 10
        rewrite(path, damage)
        assert load("small", tmp_path, val_fraction=0.25).fingerprint == first.fingerprint
        assert len(done) == 2
    rewrite(shard(folder), lambda data: data[:1000])  # the source counts
    assert shard(folder).name in fault("small", tmp_path)


def test_columns_that_do_not_fit_count_as_absent(tmp_path, kept):
    place, done = kept
    write_small(tmp_path)
    first = load("small", tmp_path, val_fraction=0.25)
    (path,) = place.iterdir()
    with np.load(path) as file:
        columns = dict(file)
    for name, wrong in (
        ("train_labels", columns["train_labels"][:-1]),
        ("test_images", columns["test_images"].astype(np.float32)),
        ("train_images", columns["train_images"][..., 0]),
        ("num_classes", np.array("ten")),
    ):
        np.savez(path, **{**columns, name: wrong})
        done.clear()
        assert load("small", tmp_path, val_fraction=0.25).fingerprint == first.fingerprint
        assert len(done) == 2


def test_swapped_files_of_the_same_time_and_size_never_meet_old_pixels(tmp_path, kept):
    place, done = kept
    path = shard(write_small(tmp_path), "train", 0)
    first = load("small", tmp_path, val_fraction=0)
    before = path.stat()
    images, _, rows = labelled(40)
    rows[:20] = rows[10:20] + rows[:10]  # other pictures of the same classes, as many bytes
    write_shard(path, rows[:20])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, before.st_size)
    done.clear()
    again = load("small", tmp_path, val_fraction=0)
    assert len(done) == 2 and again.fingerprint != first.fingerprint
    assert np.array_equal(again.train.images[:10], images[10:20])
    assert len(list(place.iterdir())) == 1  # one copy of a set


def test_one_copy_wherever_the_set_lies_and_none_of_older_versions(tmp_path, kept):
    place, done = kept
    place.mkdir(parents=True)
    gone = [f"small-{'0' * 16}.npz", f"cifar10-{'a' * 16}.npz", f"small.{'1' * 16}.npz"]
    killed = [f".small.{'2' * 16}.77.npz", f"mnist-{'b' * 16}.npz.77.tmp"]
    stay = [f"mnist.{'3' * 16}.npz", "notes.txt", "thesis-0123.npz", f".small.{'4' * 16}.78.npz"]
    for name in (*gone, *killed, *stay):
        (place / name).write_text("")
    for name in killed:  # the last of those that stay is written by another process just now
        os.utime(place / name, (0, 0))
    write_small(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    first = load("small", tmp_path / "here", val_fraction=0)
    assert load("small", tmp_path / "there", val_fraction=0).fingerprint == first.fingerprint
    assert len(done) == 2
    left = {path.name for path in place.iterdir()}
    assert left > set(stay) and len(left) == len(stay) + 1


@pytest.mark.slow
def test_two_processes_read_for_the_first_time_at_once(tmp_path):
    write_small(tmp_path)
    code = (
        "from groundfloor.data import datasets, tfds_folder; tfds_folder.CACHE_FROM = 50;"
        "print(datasets.load('small', '.', val_fraction=0.25).fingerprint)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = {process.communicate()[0].strip() for process in both}
    assert said == {load("small", tmp_path, val_fraction=0.25).fingerprint}
    assert len(list((tmp_path / "cache" / "functa" / "decoded").iterdir())) == 1


def test_a_place_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tfds_folder, "CACHE_FROM", 1)
    write_small(tmp_path)
    assert len(load("small", tmp_path, val_fraction=0.25).test) == 20
    assert "each time" in capsys.readouterr().err


def test_without_a_home_directory(tmp_path, monkeypatch, capsys):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    write_small(tmp_path)
    monkeypatch.delenv("FUNCTA_DATA", raising=False)
    monkeypatch.setattr(tfds_folder, "CACHE_FROM", 1)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    message = fault("mnist")
    assert "give --data-dir or set $FUNCTA_DATA" in message
    monkeypatch.setattr(Path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    for strange in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", strange)
        assert len(load("small", ".", val_fraction=0.25).test) == 20
        assert "each time" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
