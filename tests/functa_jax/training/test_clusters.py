"""Several processes on this machine export what one does."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from functa_jax.functaset import COLUMNS, SPLITS, load_functaset
from functa_jax.training import devices, exporter
from groundfloor.data import datasets
from groundfloor.errors import UserError
from tests.functa_jax.training.exports import DIGITS

SMALL = "import functa_jax.training.exporter as e; e.BATCH = 64"  # several batches a process
PROGRAM = f"{SMALL}; from functa_jax import export; from groundfloor import cli; "
PROGRAM += "cli.run(export.main, export.Config)"
FLAGS = ("--copies", "1", "--seed", "3")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def started(folder, out, count):
    """`count` processes that export the digits of a run's folder into a file."""
    xla = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    words = ["--run", str(folder), "--out", str(out), *FLAGS]
    words += ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", str(count), "--process"]
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words, str(number)],
            env={**os.environ, "XLA_FLAGS": xla},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


@pytest.mark.slow
def test_four_processes_export_what_one_does_and_go_on_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "BATCH", 64)
    DIGITS.save(tmp_path / "functa.npz")
    data = datasets.load("digits")
    augmentation = exporter.Augmentation.of(data, None, None, copies=1, seed=3)
    exporter.export(DIGITS, data, tmp_path / "alone.npz", augmentation)
    out = tmp_path / "together.npz"
    processes = started(tmp_path, out, 4)
    while not list(tmp_path.glob("together.partial/*/done.json")):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not out.exists()

    processes = started(tmp_path, out, 4)
    said = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert "in 4 processes" in said[0][0]
    assert sorted(path.name for path in tmp_path.glob("together*")) == [
        f"together-0000{shard}-of-00004.npz" for shard in range(4)
    ]
    one, four = load_functaset(tmp_path / "alone.npz"), load_functaset(out)
    assert one.metadata == four.metadata
    np.testing.assert_allclose(four.mean, one.mean, atol=1e-6)
    np.testing.assert_allclose(four.std, one.std, atol=1e-6)
    for split in SPLITS:
        for column in COLUMNS:
            values = (getattr(getattr(functaset, split), column) for functaset in (four, one))
            np.testing.assert_allclose(*values, atol=1e-5)


def test_a_process_0_that_is_not_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(devices, "PATIENCE", 0)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"no process 0 at --coordinator {address}"):
        devices.join_cluster(address, 2, 1)


FAILING = """
import sys
from functa_jax.training import devices
number = int(sys.argv[2])
devices.join_cluster(sys.argv[1], 2, number)
devices.everywhere(lambda: 1 / (1 - number))
"""


@pytest.mark.slow
def test_any_error_of_one_process_ends_all():
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FAILING, address, str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in (0, 1)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert "UserError: process 1: ZeroDivisionError: division by zero" in said[0]
    assert "UserError" not in said[1] and "ZeroDivisionError: division by zero" in said[1]
