"""The command export: where it writes, what it refuses."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from functa_jax import export
from functa_jax.functaset import load_functaset
from groundfloor import cli
from groundfloor.data import datasets
from tests.functa_jax.training.exports import DIGITS
from tests.tfds import pictures, rows_of, write_tfds


@pytest.fixture
def run_folder(tmp_path):
    DIGITS.save(tmp_path / "run" / "functa.npz")
    return tmp_path / "run"


@pytest.fixture
def command():
    return lambda *args: cli.run(export.main, export.Config, args=map(str, args))


def refused(command, capsys, *args):
    """The line on stderr with which the command gives up."""
    with pytest.raises(SystemExit) as stop:
        command(*args)
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert "fitting" not in said.out  # before any work
    return said.err


def test_command_writes_into_the_run_folder(command, run_folder, capsys):
    summary = command("--run", run_folder, "--copies", "2", "--dtype", "float16")
    said = capsys.readouterr().out
    path = run_folder / "functaset-x2.npz"
    assert summary == {"paths": [str(path)], "images": 4383, "checkpoint": DIGITS.hash}
    assert f'functa_jax.load_functaset("{path}")' in said and "fitting 4,383 images" in said
    assert {file.name for file in run_folder.iterdir()} == {"functa.npz", "functaset-x2.npz"}

    functaset, digits = load_functaset(path), datasets.load("digits")
    assert [len(part) for part in (functaset.train, functaset.val, functaset.test)] == [
        3 * len(digits.train),
        len(digits.val),
        len(digits.test),
    ]
    np.testing.assert_array_equal(functaset.train.ids, np.tile(digits.train.ids, 3))
    assert functaset.train.latents.dtype == np.float16
    assert functaset.metadata["data_fingerprint"] == digits.fingerprint
    assert functaset.metadata["augmentation"] == {"copies": 2, "flip": False, "pad": 1, "seed": 0}
    latents = DIGITS.encode(digits.test.images)[0]
    np.testing.assert_allclose(functaset.test.latents, latents, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_command_fits_closer_and_says_so_in_the_name(command, run_folder, tmp_path, capsys):
    images = pictures(40, 8, channels=1)
    write_tfds(tmp_path, "small", {"train": rows_of(images)}, shape=(8, 8, 1))
    data = ("--dataset", "small", "--data-dir", tmp_path)
    command("--run", run_folder, *data)
    command("--run", run_folder, *data, "--lbfgs-steps", "4")
    assert "3 steps and 4 of L-BFGS each" in capsys.readouterr().out
    first = load_functaset(run_folder / "functaset-small.npz").train
    closer = load_functaset(run_folder / "functaset-small-lbfgs4.npz").train
    assert (closer.psnr >= first.psnr).all() and closer.psnr.mean() > first.psnr.mean()

    replace(DIGITS, lbfgs_steps=4).save(
        run_folder / "closer.npz"
    )  # its own number, if none is said
    command("--run", run_folder / "closer.npz", *data, "--out", tmp_path / "own.npz")
    own = load_functaset(tmp_path / "own.npz").train
    np.testing.assert_array_equal(own.latents, closer.latents)


def test_command_names_the_file_after_another_data_set(command, run_folder, tmp_path):
    images = pictures(40, 16, channels=1)
    write_tfds(tmp_path, "small", {"train": rows_of(images)}, shape=(16, 16, 1))
    command("--run", run_folder / "functa.npz", "--dataset", "small", "--data-dir", tmp_path)
    half = datasets.load("small", tmp_path, resolution=8)  # twice the size: reduced
    latents = DIGITS.encode(half.test.images)[0]
    functaset = load_functaset(run_folder / "functaset-small.npz")
    np.testing.assert_allclose(functaset.test.latents, latents, atol=1e-6)
    assert functaset.metadata["augmentation"]["flip"]  # unlike digits


def test_own_data_that_end_alike_have_files_of_their_own(tmp_path):
    names = set()
    for year, fingerprint in (("2023", "abcdef0123"), ("2024", "0123abcdef")):
        folder = tmp_path / year / "my.photos"
        folder.mkdir(parents=True)
        names.add(export._short(SimpleNamespace(name=str(folder), fingerprint=fingerprint)))
    assert names == {"my.photos-abcdef", "my.photos-0123ab"}
    assert export._short(SimpleNamespace(name="mnist", fingerprint="x")) == "mnist"


def test_command_refuses_a_missing_run(command, capsys, tmp_path):
    assert f"{tmp_path / 'none'} does not exist" in refused(
        command, capsys, "--run", tmp_path / "none"
    )


def test_command_needs_to_know_the_data(command, capsys, tmp_path):
    replace(DIGITS, metadata={}).save(tmp_path / "functa.npz")
    assert "--dataset" in refused(command, capsys, "--run", tmp_path)


@pytest.mark.parametrize("settings", ["[]", "3", '{"dataset": 3}'])
def test_a_foreign_config_beside_the_functa_is_one_line(settings, command, run_folder, capsys):
    (run_folder / "config.json").write_text(settings)
    assert str(run_folder) in refused(command, capsys, "--run", run_folder)


@pytest.mark.parametrize(
    "flag, value",
    [
        *(
            ("--copies", "-1"),
            ("--copies", "0"),
            ("--out", "functa.npz"),
            ("--out", "latents.txt"),
            ("--flip", "True"),
            ("--pad", "1"),
            ("--pad", "-1"),
            ("--seed", "-1"),
            ("--seed", "1"),
            ("--shard-megabytes", "0"),
        ),
        *(("--copies", "some"), ("--dtype", "int8"), ("--dataset", "none"), ("--colour", "red")),
    ],
)
def test_command_refuses_impossible_flags(flag, value, command, run_folder, capsys):
    message = refused(command, capsys, "--run", run_folder, flag, value)
    assert flag in message or value in message


@pytest.mark.parametrize("size", [(16, 12, 1), (8, 8, 3), (4, 4, 1)], ids=str)
def test_command_refuses_images_that_do_not_fit(size, command, run_folder, capsys, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, *size), np.uint8)
    write_tfds(tmp_path, "other", {"train": rows_of(images)}, shape=size)
    flags = ("--dataset", "other", "--data-dir", tmp_path, "--out", tmp_path / "out.npz")
    message = refused(command, capsys, "--run", run_folder, *flags)
    assert "8" in message and str(size[0]) in message
    assert {file.name for file in tmp_path.iterdir()} == {"run", "other"}


def test_command_refuses_a_place_where_it_cannot_write(command, run_folder, capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit):
        command("--run", run_folder, "--out", tmp_path / "file" / "functaset.npz")
    assert f"error: cannot write in {tmp_path / 'file'}" in capsys.readouterr().err


def test_command_refuses_crops_beside_the_image(command, run_folder, capsys, tmp_path):
    flags = ("--copies", "1", "--pad", "8", "--out", tmp_path / "out.npz")
    message = refused(command, capsys, "--run", run_folder, *flags)
    assert "--pad 8: images of digits have only 8 pixels" in message
