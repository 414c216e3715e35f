"""Training: data order, exact resume after any kill, damaged checkpoints, divergence, processes."""

import errno
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax import functa
from functa_jax.meta_train import Config
from functa_jax.model import siren
from functa_jax.training import devices, loop, outer_loop
from functa_jax.training.checkpoints import Checkpoints
from groundfloor import kept
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.runs import Run, Stopping, read_json, read_rows

TINY = Config(
    images=32,
    width=8,
    depth=3,
    latent_dim=4,
    w0=20.0,
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
NOTHING_KEPT = "error: stopped; nothing was kept yet"
SLOW = pytest.mark.slow
DATA = datasets.load("digits", images=32)
MODEL = loop.model_config(TINY, DATA.train.images)
START = jax.device_get(outer_loop.init_state(MODEL, TINY))
START |= {"seconds": np.zeros((), np.float32), "best": np.zeros((), np.float32)}


def trained(folder, config=TINY):
    return loop.train(config, DATA, Run(folder, {}, data_fingerprint=DATA.fingerprint))[0]


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
    rows = [loop.rows_of_step(seed, epoch * steps + i, images, batch) for i in range(steps)]
    seen = np.concatenate(rows)
    assert len(np.unique(seen)) == steps * batch
    assert set(seen) <= set(range(images))


def test_epochs_and_seeds_differ_in_order():
    orders = [loop.rows_of_step(seed, step, 100, 100) for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def checkpoints_of(folder):
    """Their folders in order of steps."""
    return sorted((folder / "checkpoints").glob("[0-9]*"))


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
def test_damaged_newest_checkpoint_falls_back_and_ends_the_same(spoil, whole, finished, capsys):
    folder = finished
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


def command(folder, *flags):
    return [sys.executable, "-m", "functa_jax.meta_train", *FLAGS, "--out", str(folder), *flags]


def test_killed_at_any_moment_resumes_bit_for_bit(whole, tmp_path):
    """Also where JAX is told to compute in 64 bits."""
    folder = tmp_path / "run"
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    for moment in (4, 8):  # from a checkpoint on, wherever it is by then
        process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, env=environment)
        while process.poll() is None and not list(folder.glob(f"checkpoints/{moment:010d}-*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run = Run(folder, read_json(folder / "config.json"), data_fingerprint=DATA.fingerprint)
    assert_same(loop.train(TINY, DATA, run)[0], whole[0])
    mine, theirs = (read_rows(path / "metrics.jsonl") for path in (folder, whole[1]))
    assert [{**row, "seconds": 0} for row in mine] == [{**row, "seconds": 0} for row in theirs]


def together(folder, *flags):
    """Two processes of one command: their exit codes, standard outputs and standard errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    xla = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    processes = [
        subprocess.Popen(
            command(
                folder / f"run{number}",
                *("--coordinator", f"127.0.0.1:{port}", "--processes", "2"),
                *("--process", str(number), *flags),
            ),
            env={**os.environ, "XLA_FLAGS": xla},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], *zip(*said, strict=True)


@pytest.mark.slow
def test_two_processes_are_one_and_end_together(whole, tmp_path):
    codes, said, complaints = together(tmp_path)
    assert codes == [0, 0], complaints
    assert "in 2 processes" in said[0]
    assert_same(functa.load(tmp_path / "run0"), whole[0], tolerance=1e-5)
    assert not (tmp_path / "run1").exists()  # the first process alone writes

    codes, said, complaints = together(tmp_path)
    assert codes == [0, 0], complaints
    assert "is complete; nothing to do" in said[0]
    assert all(line.startswith("[Gloo]") for line in said[1].splitlines())

    for flags, reason in ((["--width", "9"], "width 8 -> 9"), (["--batch-size", "7"], "4 devices")):
        codes, _, complaints = together(tmp_path, *flags)
        assert codes == [2, 2]
        for complaint in complaints:
            (line,) = [line for line in complaint.splitlines() if not line.startswith("[Gloo]")]
            assert line.startswith("error: ") and reason in line


@pytest.mark.parametrize("moment", ["import", "start", pytest.param("training", marks=SLOW)])
def test_control_c_is_one_line_that_names_what_is_kept(moment, tmp_path):
    folder = tmp_path / "run"
    seen = {
        "import": lambda: True,
        "start": (folder / "config.json").exists,
        "training": lambda: len(checkpoints_of(folder)) > 1,
    }[moment]
    process = subprocess.Popen(
        command(folder, "--steps", "1000000", "--eval-every", "20"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not seen():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    lines = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130, lines
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert "Traceback" not in "".join(lines)
    if moment == "training":
        assert re.search(rf"goes on from step [\d,]+ in {folder}$", line)
    elif moment == "import":
        assert line in ("error: stopped before the work began", NOTHING_KEPT)


@pytest.mark.slow
def test_control_c_at_any_moment(tmp_path):
    for delay in np.linspace(0.2, 20, 12):
        process = subprocess.Popen(
            command(tmp_path / "run", "--steps", "1000000", "--eval-every", "20"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        complaint = process.communicate(timeout=60)[1]
        assert process.returncode == 130, (delay, complaint)
        assert "Traceback" not in complaint


@pytest.mark.parametrize("error", [RuntimeError("no such device"), AssertionError()])
def test_a_platform_that_jax_cannot_start_is_refused(error, monkeypatch):
    def devices_():
        raise error

    monkeypatch.setattr(jax, "devices", devices_)
    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    with pytest.raises(UserError, match="JAX cannot start abacus here"):
        devices.one_cpu_device_per_core()
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(type(error)):  # a fault of JAX, not of the user
        devices.one_cpu_device_per_core()


def test_a_platform_that_is_not_there_is_one_line(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cuda"}
    done = subprocess.run(
        command(tmp_path / "run"), capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr.startswith("error: JAX cannot start cuda here")
    assert done.stderr.count("\n") == 1


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


@given(
    st.lists(st.floats(5, 15, width=32), min_size=1, max_size=200),
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(1, 120),
)
def test_the_guard_does_not_see_how_steps_are_dispatched(psnrs, dispatches, eval_every):
    """Only after which step a collapse is noticed may differ, never between two checkpoints."""

    def course(dispatches):
        """(first fault or None, best at each checkpoint) of a training with these PSNRs."""
        guard, step, numbers, bests = loop.Guard(-np.inf, 4.0), 0, iter(dispatches), []
        while step < len(psnrs):
            after = min(step + next(numbers), len(psnrs), (step // eval_every + 1) * eval_every)
            part = np.array(psnrs[step:after])
            metrics = {"psnr": part, "loss": 0 * part, "gradient_norm": 0 * part}
            due = after % eval_every == 0 or after == len(psnrs)
            fault = guard.fault(step, metrics, due)
            if fault:
                return fault, bests
            step = after
            if due:
                bests.append(guard.best)
        return None, bests

    assert course(itertools.cycle(dispatches)) == course(itertools.cycle([loop.GUARDED_STEPS]))


def test_a_collapse_is_told_from_one_bad_step():
    def course(psnr):
        guard = loop.Guard(20.0, 4.0)
        return guard.fault(100, {"psnr": psnr, "loss": psnr, "gradient_norm": psnr}, True)

    one, all_ = np.full(50, 20.0), np.full(50, 15.9)
    one[7] = 0.0
    assert course(one) is None
    assert course(all_) == "training collapsed by step 150: 15.9 dB after 20.0 dB"
    one[7] = np.nan
    assert course(one) == "the loss is not finite at step 108"


def test_training_without_a_run_folder_is_the_same(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_same(loop.train(TINY, DATA, None)[0], whole[0])
    config = replace(TINY, outer_rate=1e30, warmup=0, on_divergence="rollback")
    with pytest.raises(UserError, match="after 10 roll-backs"):
        loop.train(config, DATA, None)
    assert list(tmp_path.iterdir()) == []


def test_the_count_of_roll_backs_outlives_a_stop(tmp_path, monkeypatch):
    """It is the damping's logarithm: ten in all, however often the command is given again."""
    config = replace(TINY, outer_rate=1e30, warmup=0, on_divergence="rollback")
    restore, calls = Checkpoints.restore, []

    def stopped(self, *args):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return restore(self, *args)

    monkeypatch.setattr(Checkpoints, "restore", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", config)
    with pytest.raises(UserError, match="after 10 roll-backs"):
        trained(tmp_path / "run", config)
    events = [row["damping"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert min(events) == 2.0**-10
    assert len(calls) == 1 + 3 + 1 + 1 + 7  # starts, roll-backs before and after, the stop


def test_roll_backs_come_to_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "MAX_ROLLBACKS", 2)
    config = replace(TINY, outer_rate=1e30, warmup=0, on_divergence="rollback")
    with pytest.raises(UserError, match="after 2 roll-backs"):
        trained(tmp_path / "run", config)
