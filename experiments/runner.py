"""Run the commands of an experiment, several side by side, skipping those that are finished."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from groundfloor.errors import UserError
from groundfloor.runs import Stopping, atomic, cores, read_json, write_json

RESULTS = Path(__file__).parent / "results"


def finished(command, folder, threads=None):
    """The summary of `python -m command --out folder`.

    The command itself sees to it that a finished run is not made again, and one with other settings
    refused. command: list of words after `-m`. threads: cores of this one; none leaves it all.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    words = [sys.executable, "-m", *map(str, command), "--out", str(folder)]
    Stopping.kept = f"what its runs kept in {folder.parent}"  # how far: the run itself says
    if subprocess.run(words, env=environment).returncode:
        raise UserError(f"the run in {folder} did not end well; see above")
    return read_json(folder / "summary.json")


def all_finished(commands, jobs):
    """The summaries of {folder: command}, `jobs` side by side: {folder: summary}."""
    if jobs < 1:
        raise UserError("--jobs must be at least 1")
    threads = None if jobs == 1 else max(1, cores() // jobs)
    print(
        f"{len(commands)} runs of {next(iter(commands.values()))[0]}, {jobs} at a time", flush=True
    )
    with ThreadPoolExecutor(jobs) as pool:
        found = {
            folder: pool.submit(finished, command, folder, threads)
            for folder, command in commands.items()
        }
        try:
            return {folder: future.result() for folder, future in found.items()}
        except BaseException:  # also Ctrl-C: nothing more begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def keep(config, stem, out, **facts):
    """Copy the pictures of the run folder `out` to results/STEM_*.png and write STEM.json.

    config: of the experiment, with seeds, flags and results; facts: what else the JSON holds.
    """
    for picture in (out / "figures").glob("*.png"):
        with atomic(config.results / f"{stem}_{picture.name}") as temporary:
            shutil.copy(picture, temporary)
    settings = {"flags": config.flags, "seeds": list(config.seeds)}
    write_json(config.results / f"{stem}.json", {**settings, **facts})


def percent(value):
    """A spread of shares as text: "98.51 ± 0.07 %"."""
    std = "" if value["std"] is None else f" ± {100 * value['std']:.2f}"
    return f"{100 * value['mean']:.2f}{std} %"
