"""All tasks on one run, each in turn, and one page of their reports: RUN/tasks/index.html.

A task whose report on the same checkpoint, functaset and seed is there is not run again (unless
generate has left a newer prior): the same command goes on after a stop, and what was run by itself
with settings of its own keeps them. A task that fails is named, and the others go on.
"""

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from common import cli
from common.errors import UserError
from common.runs import duration, read_json
from common.split import first_line
from functa_jax.tasks import page

TASKS = {  # in this order: TAKE_PRIOR take the one that generate leaves
    "classify": "functa_jax.tasks.classify",
    "generate": "functa_jax.tasks.generate",
    "inpaint": "functa_jax.tasks.inpaint",
    "superresolve": "functa_jax.tasks.superresolve",
    "denoise": "functa_jax.tasks.denoise",
    "interpolate": "functa_jax.tasks.interpolate",
    "retrieve": "functa_jax.tasks.retrieve",
    "compress": "functa_jax.tasks.compress",
}
TAKE_PRIOR = ("inpaint", "superresolve", "denoise", "interpolate")
SHARED = ("functaset", "seed")  # settings of every task that decide results


@dataclass(frozen=True)
class Config:
    """Which run, which tasks, and where to write."""

    run: Path
    """Run folder of functa_jax.meta_train."""
    only: tuple[str, ...] = ()
    """Names of tasks to run; default all."""
    functaset: Path | None = None
    """Functaset of that run; default functaset.npz in its folder."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path | None = None
    """Folder for the reports and the page; default tasks/ in the run folder."""
    seed: int = 0
    """Seed of everything random in the tasks."""

    def __post_init__(self):
        for name in self.only:
            if name not in TASKS:
                raise ValueError(f"--only {name}: no such task; tasks: {', '.join(TASKS)}")


def main(config):
    """Run what is missing, then write the page of all reports that there are."""
    checkpoint = _checkpoint(config.run)
    folder = config.run if config.run.is_dir() else config.run.parent
    out = config.out or folder / "tasks"
    failed = []
    for name in [name for name in TASKS if name in (config.only or TASKS)]:
        try:
            _run(name, config, out, checkpoint)
        except Exception as error:  # whatever it is, the other tasks go on
            failed.append(name)
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            print(f"{name} failed: {kind}{first_line(error)}", flush=True)

    reports = [report for name in TASKS if (report := _report(out, name, checkpoint))]
    summary = folder / "summary.json"
    questions = {report["task"]: _question(report["task"]) for report in reports}
    path = out / "index.html"
    title = f"{reports[0]['data'] if reports else folder.name} as functa"
    page.write(path, title, read_json(summary) if summary.exists() else {}, reports, questions)
    print(f"\n{path}: {len(reports)} of {len(TASKS)} tasks, {path.stat().st_size / 1e6:.1f} MB")
    if failed:
        cli.fail(f"failed: {', '.join(failed)}; the same command tries them again", code=1)


def _checkpoint(run):
    """The hash of the run's functa; UserError if there is none."""
    from functa_jax import devices

    devices.one_cpu_device_per_core()
    from functa_jax.functa import load

    return load(run).hash


def _run(name, config, out, checkpoint):
    task = import_module(TASKS[name])
    shared = {key: value for key, value in asdict(config).items() if key != "only"}
    settings = task.Config(**shared)
    report = _report(out, name, checkpoint)
    asked = json.loads(json.dumps(asdict(settings), default=str))
    same = report and all(report["config"].get(key) == asked[key] for key in SHARED)
    if same and not (name in TAKE_PRIOR and _older(out / f"{name}.json", out / "prior.npz")):
        own = [
            key for key in asked if key not in shared and report["config"].get(key) != asked[key]
        ]
        print(f"{name}: its report is there" + (f", with its own {', '.join(own)}" if own else ""))
        return
    print(f"\n{name}: {_question(name)}", flush=True)
    began = time.monotonic()
    task.main(settings)
    print(f"{name} took {duration(time.monotonic() - began)}", flush=True)


def _older(path, other):
    """Whether a file was written before another, if there is that one."""
    return other.exists() and path.stat().st_mtime < other.stat().st_mtime


def _report(out, name, checkpoint):
    """The report of a task on this checkpoint, if it is whole and has its figures; or None."""
    try:
        report = read_json(out / f"{name}.json")
        complete = all((out / figure).is_file() for figure in report["figures"])
        complete &= {"task", "data", "rows", "remarks", "config"} <= set(report)
        return report if complete and report["checkpoint"] == checkpoint else None
    except (UserError, KeyError, TypeError):
        return None


def _question(name):
    """The first line of the task's docstring; nothing if it cannot be read."""
    with contextlib.suppress(Exception):
        return import_module(TASKS[name]).__doc__.strip().splitlines()[0]
    return ""


if __name__ == "__main__":
    cli.run(main, Config)
