"""The command of training stopped from outside: killed, Ctrl-C, several processes, no platform."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from functa_jax import functa
from functa_jax.training import devices, loop
from groundfloor.errors import UserError
from groundfloor.runs import Run, read_json, read_rows
from tests.functa_jax.training.tiny import DATA, FLAGS, TINY, assert_same, checkpoints_of

NOTHING_KEPT = "error: stopped; nothing was kept yet"
SLOW = pytest.mark.slow


def command(folder, *flags):
    return [sys.executable, "-m", "functa_jax.meta_train", *FLAGS, "--out", str(folder), *flags]


@pytest.mark.slow
def test_killed_at_any_moment_resumes_bit_for_bit(whole, tmp_path):
    """Also where JAX is told to compute in 64 bits."""
    folder = tmp_path / "run"
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, env=environment)
    # From a checkpoint on, wherever it is by then.
    while process.poll() is None and not list(folder.glob(f"checkpoints/{4:010d}-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = Run(folder, read_json(folder / "config.json"), data_fingerprint=DATA.fingerprint)
    assert_same(loop.train(TINY, DATA, run)[0], whole[0])
    mine, theirs = (read_rows(path / "metrics.jsonl") for path in (folder, whole[1]))
    assert [{**row, "seconds": 0} for row in mine] == [{**row, "seconds": 0} for row in theirs]


def together(folder, *flags, count=2):
    """Processes of one command, four devices in all: their exit codes, standard outputs and
    standard errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    xla = f"--xla_force_host_platform_device_count={4 // count}"
    xla += " --xla_backend_optimization_level=0"
    processes = [
        subprocess.Popen(
            command(
                folder / f"run{number}",
                *("--coordinator", f"127.0.0.1:{port}", "--processes", str(count)),
                *("--process", str(number), *flags),
            ),
            env={**os.environ, "XLA_FLAGS": xla},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
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


@pytest.mark.slow
def test_four_processes_that_read_each_its_own_images_are_one(whole, tmp_path):
    codes, said, complaints = together(tmp_path, "--resident", "no", count=4)
    assert codes == [0] * 4, complaints
    assert "in 4 processes" in said[0]
    assert_same(functa.load(tmp_path / "run0"), whole[0], tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [pytest.param("import", marks=SLOW), "start", pytest.param("training", marks=SLOW)],
)
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
