"""Training: data order, exact resume after any kill, damaged checkpoints, divergence, processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import datasets
from common.errors import UserError
from common.runs import Run, read_rows
from functa_jax import functa, siren, training
from functa_jax.meta_train import Config

TINY = Config(
    images=32,
    width=8,
    depth=3,
    latent_dim=4,
    batch_size=8,
    steps=12,
    warmup=2,
    noise=0.01,
    inner_points=40,
    eval_every=4,
    dispatch=3,
)
FLAGS = [
    *("digits", "--images", "32", "--width", "8", "--depth", "3", "--latent-dim", "4"),
    *("--batch-size", "8", "--steps", "12", "--warmup", "2", "--noise", "0.01"),
    *("--inner-points", "40", "--eval-every", "4", "--dispatch", "3"),
]
DATA = datasets.load("digits", images=32)


def trained(folder, config=TINY):
    return training.train(config, DATA, Run(folder, {"test": 1}))[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(functa, run folder) of an undisturbed training."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return trained(folder), folder


def assert_same(a, b, tolerance=0.0):
    a, b = siren.flatten(a.params), siren.flatten(b.params)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance, err_msg=name)


@given(st.integers(0, 5), st.integers(0, 3), st.integers(1, 9), st.integers(9, 40))
def test_every_epoch_sees_whole_batches_of_different_images(seed, epoch, batch, images):
    steps = images // batch
    rows = [training.rows_of_step(seed, epoch * steps + i, images, batch) for i in range(steps)]
    seen = np.concatenate(rows)
    assert len(np.unique(seen)) == steps * batch
    assert set(seen) <= set(range(images))


def test_epochs_and_seeds_differ_in_order():
    orders = [training.rows_of_step(seed, step, 100, 100) for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def newest_checkpoint(folder):
    return max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))


def spoil_bytes(checkpoint):
    largest = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 255
    largest.write_bytes(data)


def cut_files(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_arrays(checkpoint):
    for path in (checkpoint / "state").rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("spoil", [spoil_bytes, cut_files, remove_arrays])
def test_damaged_newest_checkpoint_falls_back_and_ends_the_same(spoil, whole, tmp_path, capsys):
    folder = tmp_path / "run"
    trained(folder)
    spoil(newest_checkpoint(folder))
    capsys.readouterr()
    assert_same(trained(folder), whole[0])
    said = capsys.readouterr().out
    assert "checkpoint 12 is damaged and was skipped" in said
    assert "resuming from the checkpoint at step 8" in said
    assert [row["step"] for row in read_rows(folder / "metrics.jsonl")] == [3, 4, 7, 8, 11, 12]


@pytest.mark.slow
def test_all_checkpoints_damaged_starts_again(whole, tmp_path):
    folder = tmp_path / "run"
    trained(folder)
    for checkpoint in (folder / "checkpoints").iterdir():
        cut_files(checkpoint)
    assert_same(trained(folder), whole[0])


def command(folder, *flags):
    return [sys.executable, "-m", "functa_jax.meta_train", *FLAGS, "--out", str(folder), *flags]


def test_killed_at_any_moment_resumes_bit_for_bit(whole, tmp_path):
    folder = tmp_path / "run"
    for moment in (4, 8):  # from a checkpoint on, wherever it is by then
        process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL)
        while process.poll() is None and not (folder / "checkpoints" / str(moment)).is_dir():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command(folder), capture_output=True, text=True, check=True)
    assert "all numbers" in done.stdout
    assert_same(functa.load(folder), whole[0])
    mine, theirs = (read_rows(path / "metrics.jsonl") for path in (folder, whole[1]))
    assert [{**row, "seconds": 0} for row in mine] == [{**row, "seconds": 0} for row in theirs]


@pytest.mark.slow
def test_two_processes_are_one(whole, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags}
    processes = [
        subprocess.Popen(
            command(
                tmp_path / f"run{number}",
                *("--coordinator", f"127.0.0.1:{port}", "--processes", "2"),
                *("--process", str(number)),
            ),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in (0, 1)
    ]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "in 2 process(es)" in said[0]
    assert_same(functa.load(tmp_path / "run0"), whole[0], tolerance=1e-5)
    assert not (tmp_path / "run1").exists()  # the first process alone writes


def test_non_finite_loss_stops_with_the_step_named(tmp_path):
    with pytest.raises(UserError, match=r"not finite at step \d+; lower --outer-rate"):
        trained(tmp_path / "run", replace(TINY, outer_rate=1e30, warmup=0))


@pytest.mark.slow
def test_roll_back_halves_the_rate_and_ends(tmp_path, capsys):
    config = replace(TINY, outer_rate=3.0, warmup=0, steps=24, eval_every=24, noise=0.0)
    config = replace(config, on_divergence="rollback", schedule="constant")
    result = trained(tmp_path / "run", config)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    events = [row for row in rows if row.get("event") == "rollback"]
    assert events
    assert [row["damping"] for row in events] == [0.5 ** (i + 1) for i in range(len(events))]
    assert rows[-1]["step"] == 24
    assert all(np.isfinite(value).all() for value in siren.flatten(result.params).values())
    assert "outer rate times 0.5" in capsys.readouterr().out


def test_roll_backs_come_to_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "MAX_ROLLBACKS", 2)
    config = replace(TINY, outer_rate=1e30, warmup=0, on_divergence="rollback")
    with pytest.raises(UserError, match="after 2 roll-backs"):
        trained(tmp_path / "run", config)


def test_every_outer_setting_has_its_flag():
    assert asdict(training.outer_config(TINY)).items() <= asdict(TINY).items()
