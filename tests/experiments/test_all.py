"""All claims: the registry names what exists; what is missing or stale is run, and only that."""

import importlib
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments import all as everything
from experiments import gpu_queue, runner
from experiments.claims import (
    CLAIMS,
    GPU_CLAIMS,
    KEPT,
    STUDIES,
    TORCH,
    Claim,
    with_imports,
)
from experiments.recorded import seconds
from experiments.tables.page import CHAPTERS
from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.runs import write_json


def test_the_registry_names_all_results_and_only_code_that_exists():
    files = {name for claim in CLAIMS for name in claim.files}
    there = {path.name for path in runner.RESULTS.iterdir() if path.suffix in (".json", ".jsonl")}
    assert there <= files | set(KEPT)
    assert {table.file for _, tables in CHAPTERS.values() for table in tables} <= files | set(KEPT)
    assert {claim.study for claim in CLAIMS} == set(STUDIES)
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert all((everything.ROOT / path).exists() for path in claim.code), claim.name
        for command in claim.commands:
            assert find_spec(command.split()[0]), command


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one module, of which two claims are made; its first commit is returned."""

    def git(*words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(everything, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "RESULTS", tmp_path)
    return git


def test_what_an_experiment_imports_belongs_to_its_code():
    code = with_imports("experiments/robust_ranking.py")
    assert code[0] == "experiments/robust_ranking.py" and len(set(code)) == len(code)
    names = ("ranking", "mean_shift", "residuals", "huber_path", "linear", "pictures")
    assert {*code[1:]} == {f"optim_torch/robust/{name}.py" for name in names}
    assert with_imports("experiments/robust_ranking.py", inside=()) == code[:1]


def test_the_code_of_a_claim_holds_what_it_imports_outside_of_functa():
    for claim in CLAIMS:
        inside = () if claim.study == "functa" else TORCH
        if not claim.name.startswith("bench "):  # one file for all benches
            assert {*with_imports(*claim.code, inside=inside)} == {*claim.code}, claim.name


def test_a_result_is_stale_when_its_code_is_not_that_of_its_commit(repository, tmp_path):
    claim = Claim("functa", ("json.tool",), ("a.json",), ("code.py",), 7)

    def state():
        return everything.state(claim, tmp_path)

    assert state() == "missing: a.json"
    write_json(tmp_path / "a.json", {"commit": repository("rev-parse", "HEAD").strip()})
    assert state() == "finished"
    before = everything.code_hash(claim)
    (tmp_path / "other.py").write_text("x = 2\n")
    assert state() == "finished"
    (tmp_path / "code.py").write_text("x = 2\n")
    assert "not committed" in state()
    assert everything.code_hash(claim) != before
    repository("commit", "-qam", "second")
    assert "1 commit since" in state()
    (tmp_path / "code.py").write_text("x = 1\n")  # taken back
    assert state() == "finished"
    assert everything.code_hash(claim) == before
    write_json(tmp_path / "a.json", {"commit": "0" * 40})
    assert state() == "stale: its commit is not known here"
    write_json(tmp_path / "a.json", {})
    assert state() == "finished; it names no commit"


def test_a_failing_command_is_said_and_the_rest_goes_on(repository, tmp_path, monkeypatch, capfd):
    (tmp_path / "good.json").write_text("{}")

    def claim(name, *files):
        return Claim("functa", (f"json.tool {name} {name}.out",), files, ("code.py",), 5)

    claims = (claim("bad.json", "x.json"), claim("good.json", "y.json"), claim("z", "good.json"))
    monkeypatch.setattr(everything, "CLAIMS", claims)
    with pytest.raises(UserError, match="1 of 2 claims failed"):
        everything.main(everything.Config(jobs=2))
    assert (tmp_path / "good.json.out").exists() and not (tmp_path / "z.out").exists()
    logs = [path.read_text() for path in tmp_path.glob("runs/all/*bad*/output.txt")]
    assert len(logs) == 1 and "bad.json" in logs[0]
    capfd.readouterr()
    monkeypatch.setattr(everything, "CLAIMS", claims[1:])
    assert everything.main(everything.Config(hours=1, only=("robust",))) == []
    assert everything.main(everything.Config(list=True)) == []
    assert "missing: y.json" in capfd.readouterr().out


def alive(pid):
    """Whether a process runs; one that has ended but is not yet asked for (Z) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_claim_is_stopped_with_all_that_it_began(repository, tmp_path, monkeypatch, capfd):
    (tmp_path / "slow.py").write_text(
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(10**6)'])\n"
        "pathlib.Path('pid').write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    claim = Claim("functa", ("slow",), ("a.json",), ("code.py",), 5)
    pid = tmp_path / "pid"

    def wait(process, timeout=None, usual=subprocess.Popen.wait):
        while timeout is not None and not (pid.exists() and pid.read_text()):
            time.sleep(0.01)
        return usual(process, None if timeout is None else 0.01)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert everything.run(claim, time.monotonic() + 60, 1, True) is None
    assert "goes on at the next call" in capfd.readouterr().out
    assert not everything.RUNNING
    while alive(int(pid.read_text())):
        time.sleep(0.01)
    assert everything.run(claim, time.monotonic() - 1, 1, True) is None  # it does not begin


def test_a_command_that_a_kill_left_behind_is_not_run_beside_itself(repository, tmp_path, capfd):
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, time\n"
        "if pathlib.Path('pid').exists(): raise SystemExit\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "time.sleep(10**6)\n"
    )
    claim = Claim("functa", ("slow",), ("a.json",), ("code.py",), 5)
    program = (
        "from pathlib import Path; from experiments import all as everything\n"
        "from experiments.claims import Claim; everything.ROOT = Path.cwd()\n"
        f"everything.run({claim}, float('inf'), 1, True)"
    )
    root = Path(__file__).parents[2]
    call = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(root)}
    )
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.01)
    call.kill()
    call.wait()
    assert everything.run(claim, math.inf, 1, True) == 2
    assert "still at work" in capfd.readouterr().out
    os.kill(int(pid.read_text()), signal.SIGKILL)
    while alive(int(pid.read_text())):
        time.sleep(0.01)
    assert everything.run(claim, math.inf, 1, True) == 0


@pytest.mark.parametrize("claim", [*CLAIMS, *GPU_CLAIMS], ids=lambda claim: claim.name)
def test_commands_are_such_as_their_experiments_take(claim):
    for command in claim.commands:
        program, *flags = shlex.split(command.format(out="o", results="r"))
        module, preset = importlib.import_module(program), None
        presets = getattr(module, "PRESETS", None)
        if presets is None and hasattr(module, "BENCHES"):
            presets = dict.fromkeys(module.BENCHES, module.Config())
        if presets:
            preset = presets[flags.pop(0)] if flags[0] in presets else next(iter(presets.values()))
        config = cli.parse(module.Config, preset, flags)
        if claim in GPU_CLAIMS:
            assert config.results == Path("r")


def test_the_queue_skips_what_is_finished_and_leaves_small_files_alone(
    tmp_path, monkeypatch, capsys
):
    command = "json.tool in.json {results}/out.json"
    claims = [
        Claim("functa", (command,), ("out.json",), (), 1),
        Claim("optim", ("json.tool none",), ("never.json",), (), 1),
    ]
    monkeypatch.setattr(gpu_queue, "GPU_CLAIMS", claims)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.json").write_text("{}")
    gpu_queue.main(gpu_queue.Config(dry_run=True))
    assert capsys.readouterr().out.count("missing") == 2
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 claim failed: json\.tool none"):
            gpu_queue.main(gpu_queue.Config(minutes=1, out=tmp_path / "small"))
        assert [path.name for path in (tmp_path / "small").iterdir()] == ["out.json"]
    assert "1 of 2 claims to run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("contents", "total"),
    [
        ({"seconds": 5.0, "table": [{"seconds": 1}]}, 5),
        ({"runs": [{"train_seconds": 2}, {"train_seconds": 3}], "table": [{"seconds": 9}]}, 5),
        ({"train_seconds": {"a": 1.5, "b": 3.5}}, 5),
        ({"rows": [{"train_seconds": [1, 2]}, {"seconds": 2}]}, 5),
        ({"seeds": [0, 1], "table": [{"seconds": {"mean": 2.5, "std": 1}}]}, 5),
        ({"table": [{"x": 1}]}, None),
        ({"table": {"x": 1}}, None),
    ],
)
def test_seconds_of_a_result(tmp_path, contents, total):
    write_json(tmp_path / "a.json", contents)
    assert seconds(tmp_path / "a.json") == total


def test_seconds_of_a_table(tmp_path):
    write_json(tmp_path / "a.json", {"seconds": 9})
    (tmp_path / "a.csv").write_text("seed,seconds\n0,2.5\n1,2.5\n2,\n")
    assert seconds(tmp_path / "a.json") == 5
