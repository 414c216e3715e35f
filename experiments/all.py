"""All claims of the report, in order of value: what is missing or stale is run.

    python -m experiments.all --list            what there is, what is stale, and the minutes
    python -m experiments.all --hours 8         the most valuable first, until then
    python -m experiments.all --only robust     one study

A result is stale when code that its claim depends on (experiments/claims.py) is no longer that of
the commit in its file. Each command is a process; one that fails is said and the rest goes on, and
the exit code is then 2. Runs lie in runs/all/CLAIM-CODE: a killed command goes on there when it is
called again, and code that has changed gets a new folder. Then: python -m experiments.tables.
"""

import contextlib
import hashlib
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments import runner
from experiments.claims import CLAIMS, STUDIES
from experiments.recorded import commits, seconds
from groundfloor import checks, cli, tables
from groundfloor.checks import Count, Positive
from groundfloor.errors import UserError
from groundfloor.machine import cores
from groundfloor.runs import Stopping, counted, duration, lock

ROOT = Path(__file__).parent.parent
RUNS = Path("runs/all")


@dataclass(frozen=True)
class Config(checks.Settings):
    """Which claims, and for how long."""

    hours: Positive | None = None
    """Time in hours; what runs then is stopped and goes on at the next call. None: no limit."""
    jobs: Count = 1
    """Claims side by side, each with its share of the cores."""
    only: tuple[Literal[STUDIES], ...] = STUDIES
    """Studies."""
    list: bool = False
    """Only say what is finished, missing or stale."""


def main(config):
    """List the claims, or run those that are missing or stale; returns the names of those run.

    Raises UserError at the end where a command failed.
    """
    claims = [claim for claim in CLAIMS if claim.study in config.only]
    states = {claim.name: state(claim, runner.RESULTS) for claim in claims}
    if config.list:
        rows = [
            {"claim": c.name, "study": c.study, "minutes": minutes(c), "state": states[c.name]}
            for c in claims
        ]
        print(tables.as_text(rows))
        return []
    wanted = [claim for claim in claims if not states[claim.name].startswith("finished")]
    total = 60 * sum(map(minutes, wanted))
    print(f"{counted(len(wanted), 'claim')} to run, {duration(total)} in all", flush=True)
    return run_all(wanted, config)


def run_all(claims, config):
    """Run claims in their order, `jobs` at a time; returns the names of those that were begun."""
    end = time.monotonic() + 3600 * (config.hours or math.inf)
    threads = max(1, cores() // config.jobs)
    Stopping.kept = "what the runs kept in runs/all"
    with ThreadPoolExecutor(config.jobs) as pool:
        try:
            futures = {c.name: pool.submit(run, c, end, threads, config.jobs == 1) for c in claims}
            codes = {name: future.result() for name, future in futures.items()}
        except BaseException:  # also Ctrl-C: nothing more begins
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(RUNNING):
                stop(process)
            raise
    failed = [name for name, code in codes.items() if code]
    if failed:
        raise UserError(
            f"{len(failed)} of {counted(len(codes), 'claim')} failed: {', '.join(failed)}"
        )
    return [name for name, code in codes.items() if code is not None]


RUNNING = set()  # processes of all threads


def run(claim, end, threads, shown, runs=RUNS, results=None):
    """Exit code of a claim's commands, of the first that fails; None where the time was up: what
    runs at `end` (as of time.monotonic) is stopped, and goes on when it is called again.

    shown: what they print is shown here; else it goes to output.txt in the folder of the runs.
    runs, results: folders; results None: experiments/results.
    """
    if time.monotonic() >= end:
        print(f"{claim.name}: no time is left", flush=True)
        return None
    out = runs / f"{claim.name.replace(' ', '-')}-{code_hash(claim)}"
    out.mkdir(parents=True, exist_ok=True)
    try:
        held = lock(runs / ".at-work" / out.name)
    except UserError:
        print(f"{claim.name}: a command of another call is still at work on it", flush=True)
        return 2
    # The command inherits the lock: it also holds where a kill -9 leaves it without this process.
    inherited = [] if held is None else [held.fileno()]
    print(f"{claim.name}: {out}", flush=True)
    variables = dict(os.environ, OMP_NUM_THREADS=str(threads))
    places = {"out": shlex.quote(str(out)), "results": shlex.quote(str(results or runner.RESULTS))}
    with contextlib.nullcontext() if shown else (out / "output.txt").open("a") as output:
        for command in claim.commands:
            words = [sys.executable, "-m", *shlex.split(command.format_map(places))]
            process = subprocess.Popen(
                words,
                env=variables,
                stdout=output,
                stderr=output,
                process_group=0,
                pass_fds=inherited,
            )
            RUNNING.add(process)
            try:
                code = process.wait(None if end == math.inf else max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"{claim.name}: stopped, it goes on at the next call", flush=True)
                return None
            finally:
                stop(process)
            if code:
                print(f"{claim.name}: failed with exit code {code}", flush=True)
                return code
    return 0


def stop(process):
    """End a process and those that it began, which lose nothing by it."""
    RUNNING.discard(process)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def state(claim, results):
    """What is the matter with a claim's results, in words: missing, stale ..., or finished ..."""
    missing = [name for name in claim.files if not (results / name).exists()]
    if missing:
        return f"missing: {' '.join(missing)}"
    states = [state_since(made, claim) for made in commits(results / claim.files[0])]
    return next((found for found in states if found.startswith("stale")), states[0])


def state_since(made, claim):
    """The same of results that are there, made with a commit, or None."""
    if made is None:
        return "finished; it names no commit"
    if git("cat-file", "-e", f"{made}^{{commit}}") is None:
        return "stale: its commit is not known here"
    if git("diff", "--quiet", made, "--", *claim.code) is not None:
        return "finished"
    changes = git("log", "--format=%h", f"{made}..HEAD", "--", *claim.code).split()
    when = f"{counted(len(changes), 'commit')} since {made[:10]}" if changes else "not committed"
    return f"stale: its code has changed ({when})"


def git(*words):
    """What a git command prints; None where it fails."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
    except OSError:  # git is not installed
        return None
    return done.stdout if done.returncode == 0 else None


def code_hash(claim):
    """Eight digits of the hash of the code that a claim depends on, as it lies here."""
    digest = hashlib.sha256()
    for path in map(ROOT.joinpath, claim.code):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def minutes(claim):
    """How long a claim takes: as its files say, or as stated."""
    known = seconds(runner.RESULTS / claim.files[0])
    return max(1, round(known / 60 if known else claim.minutes))


if __name__ == "__main__":
    cli.run(main, Config)
