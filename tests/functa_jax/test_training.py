"""Training: data order, exact resume after any kill, damaged checkpoints, divergence, processes."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import datasets
from common.errors import UserError
from common.runs import Run, Stopping, read_rows
from functa_jax import functa, outer_loop, siren, training
from functa_jax.checkpoints import Checkpoints
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
MODEL = training.model_config(TINY, DATA.train.images)
START = jax.device_get(outer_loop.init_state(MODEL, training.outer_config(TINY)))
START |= {"seconds": np.zeros((), np.float32), "best": np.zeros((), np.float32)}


def trained(folder, config=TINY):
    return training.train(config, DATA, Run(folder, {}, data_fingerprint=DATA.fingerprint))[0]


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


def checkpoints_of(folder):
    """File names in order of steps."""
    return sorted((folder / "checkpoints").glob("*.npz"))


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil", [flip_a_bit, cut, lambda path: path.write_bytes(b"")])
def test_damaged_newest_checkpoint_falls_back_and_ends_the_same(spoil, whole, tmp_path, capsys):
    folder = tmp_path / "run"
    trained(folder)
    before = checkpoints_of(folder)
    spoil(before[-1])
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


def nothing_changes(folder, message, config=TINY):
    """Training on is refused in one line, and leaves every file as it was."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message) as refusal:
        trained(folder, config)
    assert "\n" not in str(refusal.value)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of the run folder of a training."""
    return Path(shutil.copytree(whole[1], tmp_path / "copy"))


def test_nothing_is_deleted_if_no_checkpoint_is_good(finished):
    for path in checkpoints_of(finished):
        cut(path)
    nothing_changes(finished, "no checkpoint in .* is good; move them away to begin anew")


def test_checkpoints_of_another_layout_stay(finished):
    for path in checkpoints_of(finished):
        path.unlink()
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
def test_a_checkpoint_that_cannot_be_read_stops_the_run(error, method, finished, monkeypatch):
    plain = getattr(Path, method)

    def failing(path):
        if "checkpoints" in str(path):
            raise error
        return plain(path)

    monkeypatch.setattr(Path, method, failing)
    reason = error.strerror if isinstance(error, OSError) else "out of memory"
    with pytest.raises(UserError, match=f"cannot be read: {reason}"):
        trained(finished)
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


def test_a_checkpoint_is_what_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.restore(START) is None
    random = np.random.default_rng(0)
    state = jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), START)
    state = {**state, "step": np.array(1234, np.int32), "best": np.array(-np.inf, np.float32)}
    for holder in (checkpoints, Checkpoints(None)):
        holder.save(state)
        jax.tree.map(np.testing.assert_array_equal, holder.restore(START), state)
    assert Stopping.kept == f"step 1,234 in {tmp_path / 'run'}"


def command(folder, *flags):
    return [sys.executable, "-m", "functa_jax.meta_train", *FLAGS, "--out", str(folder), *flags]


def test_killed_at_any_moment_resumes_bit_for_bit(whole, tmp_path):
    folder = tmp_path / "run"
    for moment in (4, 8):  # from a checkpoint on, wherever it is by then
        process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL)
        name = f"checkpoints/{moment:010d}-*.npz"
        while process.poll() is None and not list(folder.glob(name)):
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
