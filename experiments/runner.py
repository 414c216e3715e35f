"""What experiments share: settings, the runs of commands, result files, text of a spread.

`finished` and `all_finished` run commands as processes, several side by side, and skip those that
are finished.
"""

import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from groundfloor import checks, cli, cluster
from groundfloor.checks import Count, Flags, Seed
from groundfloor.errors import UserError, first_line
from groundfloor.machine import cores, environment, now
from groundfloor.runs import Stopping, copy_file, read_json, spread, write_json

RESULTS = Path(__file__).parent / "results"
WHERE = ("--out", "--results", "--jobs", "--ray", "--device", "--join")


@dataclass(frozen=True, kw_only=True)
class RunsConfig(checks.Settings):
    """Settings of an experiment that runs one of the packages' commands."""

    flags: Flags = ""
    """More flags of the command, as one string."""
    out: Path | None = None
    """Folder for the runs; default runs/EXPERIMENT_NAME."""
    results: Path = RESULTS
    """Folder for tables and pictures."""

    def folder(self, stem):
        """Where the runs go; stem: EXPERIMENT_NAME."""
        return self.out or Path("runs") / stem


@dataclass(frozen=True, kw_only=True)
class SeededConfig(RunsConfig):
    """Settings of an experiment that runs a command with several seeds."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of every run."""


@dataclass(frozen=True, kw_only=True)
class PresetConfig(SeededConfig):
    """Settings of an experiment that runs a preset of a command with several seeds."""

    preset: str | None = None
    """Preset of the command; default that of this name."""
    join: tuple[Path, ...] = ()
    """Folders of such runs with other seeds, of other machines perhaps: what is finished there is
    taken over."""

    def words(self):
        """What the command is given besides its preset."""
        joined = ["--join", *self.join] if self.join else []
        return [*shlex.split(self.flags), "--seeds", *self.seeds, *joined]


@dataclass(frozen=True, kw_only=True)
class SweepConfig(SeededConfig):
    """Settings of an experiment that runs a command with many settings."""

    jobs: Count = 1
    """Runs side by side, each with its share of the cores."""
    ray: str | None = None
    """Run them on a Ray cluster, one a GPU or core: its address, "auto", or "local". Its machines
    must share the folder of --out."""

    def __post_init__(self):
        super().__post_init__()
        alone = self.ray is None or self.jobs == 1
        checks.require(alone, "jobs", self.jobs, "is the cluster's business with --ray")


def finished(command, folder, threads=None):
    """The summary of `python -m command --out folder`.

    The command itself sees to it that a finished run is not made again, and one with other settings
    refused. command, threads: as of `ended`.
    """
    ended(command, folder, threads)
    return read_json(folder / "summary.json")


def ended(command, folder, threads=None):
    """Run `python -m command --out folder`; UserError if it does not end well.

    command: list of words after `-m`. threads: cores of this one; none leaves it all.
    """
    variables = dict(os.environ)
    if threads is not None:
        variables["OMP_NUM_THREADS"] = str(threads)
    words = [sys.executable, "-m", *map(str, command), "--out", str(folder)]
    Stopping.kept = f"what its runs kept in {folder.parent}"  # how far: the run itself says
    if subprocess.run(words, env=variables).returncode:
        raise UserError(f"the run in {folder} did not end well; see above")


def all_finished(commands, config):
    """The summaries of {folder: command}, as `finished`: {folder: summary}.

    config: a SweepConfig, which says where they run. When one fails no other begins.
    """
    program = next(iter(commands.values()))[0]
    if config.ray is not None:
        return _on_cluster(commands, config.ray, program)
    jobs = config.jobs
    threads = None if jobs == 1 else max(1, cores() // jobs)
    print(f"{len(commands)} runs of {program}, {jobs} at a time", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        futures = {
            folder: pool.submit(finished, command, folder, threads)
            for folder, command in commands.items()
        }
        try:
            return {folder: future.result() for folder, future in futures.items()}
        except BaseException:  # also Ctrl-C: nothing more begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _on_cluster(commands, address, program):
    with cluster.connected(address) as ray:
        gpus, places = cluster.places(ray)
        print(f"{len(commands)} runs of {program}, {places} at a time on {address}", flush=True)
        # A process of its own for each: JAX and PyTorch keep a GPU's memory until theirs ends.
        task = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=0)(finished)
        waiting = {
            task.remote(command, folder.resolve(), None if gpus else 1): folder
            for folder, command in commands.items()
        }
        summaries = dict.fromkeys(commands)
        while waiting:
            (reference,), _ = ray.wait(list(waiting))
            folder = waiting.pop(reference)
            try:
                summaries[folder] = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise UserError(f"{folder}: {first_line(error.cause)}") from None
            except ray.exceptions.RayError as error:  # its process or its machine died
                raise UserError(f"{folder}: {first_line(error)}") from None
            print(f"{folder} is finished, {len(waiting)} to come", flush=True)
        return summaries


STARTED = environment()  # now: the code may change while an experiment runs


def write(path, command, facts, made_by=()):
    """Write a result file and return what it holds: the command that makes it, with its flags, the
    environment, and `facts` (dict).

    made_by: of what the facts come from, the environments: summaries, or that of a `Run`. The
    oldest says commit, versions and machine; where there is none, the environment that this process
    began in.
    """
    made = min(made_by, key=itemgetter("finished"), default=STARTED)
    words = " ".join([f"python -m experiments.{command}", *_flags(cli.Given.words)])
    environment = {**{key: made[key] for key in STARTED if key in made}, "finished": now()}
    result = {"command": words, **environment, **facts}
    write_json(path, result)
    return result


def _flags(words):
    """Flags of a command line, quoted, without those that say where and on what it runs; of other
    paths the name alone."""
    kept, wanted = [], False
    for word in words:
        if word.startswith("--"):
            wanted = word.split("=")[0] not in WHERE
        if wanted:
            kept.append(Path(word).name if word.startswith("/") else word)
    return map(shlex.quote, kept)


def keep(config, stem, command, folder, summary):
    """Keep a command's pictures and table as results/STEM_*.png and .csv, its summary as .json.

    folder: of the finished run. Returns what the JSON holds.
    """
    for picture in (folder / "figures").glob("*.png"):
        copy_file(picture, config.results / f"{stem}_{picture.name}")
    table = folder / "results.csv"
    if table.exists():
        copy_file(table, config.results / f"{stem}.csv")
    settings = {"flags": config.flags, "seeds": list(config.seeds)}
    return write(config.results / f"{stem}.json", command, {**settings, **summary})


def run_and_keep(config, experiment, name):
    """Run optim_torch.EXPERIMENT where it is missing, and `keep` it; config: a PresetConfig."""
    stem = f"{experiment}_{name}"
    folder = config.folder(stem)
    command = [f"optim_torch.{experiment}", config.preset or name, *config.words()]
    summary = finished(command, folder)
    return keep(config, stem, f"{experiment} {name}", folder, summary)


def spread_of_known(values):
    """As `spread`, of the values that are there, with how many where some are None; None if none
    is."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    return spread(known) | ({"known": len(known)} if len(known) < len(values) else {})


def text(value, unit=""):
    """A spread (dict of mean and std) as text: "98.51 ± 0.07 %" of shares, "31.20 ± 0.04 dB"."""
    factor = 100 if unit == "%" else 1
    std = "" if value["std"] is None else f" ± {factor * value['std']:.2f}"
    return f"{factor * value['mean']:.2f}{std} {unit}".rstrip()
