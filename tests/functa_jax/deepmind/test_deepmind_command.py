"""python -m functa_jax.deepmind, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import dill
import jax
import numpy as np
import pytest

from functa_jax.deepmind import __main__ as deepmind
from functa_jax.functa import load
from functa_jax.functaset import load_functaset
from tests.functa_jax.deepmind.deepmind_model import (
    ROOT,
    imported,
)


def command(*args, cwd):
    return subprocess.run(
        [sys.executable, "-m", "functa_jax.deepmind", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )


@pytest.mark.slow
def test_command_line(tmp_path):
    functa, params = imported(tmp_path / "weights.npz")
    done = command("weights.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} parameters" in done.stdout and "rates -0.5 to 1.5, 2 outside" in done.stdout
    line = done.stdout.splitlines()[-1].removeprefix("load it: functa_jax.")
    assert line == 'load("runs/weights/functa.npz")'
    assert load(tmp_path / "runs" / "weights").hash == functa.hash

    missing = command("absent.npz", "--out", "there", cwd=tmp_path)
    assert missing.returncode == 2 and not missing.stdout
    assert missing.stderr == "error: absent.npz does not exist\n"
    assert not (tmp_path / "there").exists()


def run(*args):
    return deepmind.cli.run(deepmind.main, deepmind.Config, args=args)


def test_command_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    imported(Path("a.npz"))
    summary = run("a.npz", "--out", "run")
    assert summary["path"] == str(Path("run/functa.npz"))
    assert load("run").metadata["sha256"] == summary["sha256"]
    before = Path("run/functa.npz").read_bytes()
    run("a.npz", "--out", "run")
    assert Path("run/functa.npz").read_bytes() == before
    imported(Path("b.npz"), seed=1)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run("b.npz", "--out", "run")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "run/functa.npz exists" in error
    assert Path("run/functa.npz").read_bytes() == before
    Path("file").touch()
    with pytest.raises(SystemExit):
        run("a.npz", "--out", "file/below")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot write" in error


def test_command_on_modulations(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    functa, _ = imported(Path("w.npz"))
    functa.save("run/functa.npz")
    rows = {"modulation": np.ones((3, 5), np.float32), "psnr": np.float32([20, 21, 22])}
    Path("m.npz").write_bytes(dill.dumps({"train": rows, "test": rows}))
    run("m.npz", "--weights", "run")
    out = capsys.readouterr().out
    assert "train latents (3, 5) of 21.00 dB" in out
    assert 'functa_jax.load_functaset("runs/m/functaset.npz")' in out
    functaset = load_functaset("runs/m")
    assert functaset.metadata["checkpoint"] == functa.hash
    np.testing.assert_array_equal(functaset.train.latents, rows["modulation"])


def test_modulations_need_no_jax(tmp_path):
    rows = {"modulation": np.ones((3, 5), np.float32), "psnr": np.zeros(3, np.float32)}
    (tmp_path / "m.npz").write_bytes(dill.dumps({"train": rows, "test": rows}))
    code = (
        "import sys; from functa_jax.deepmind import load_modulations; "
        "load_modulations('m.npz'); assert not {'jax', 'dill'} & sys.modules.keys()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
