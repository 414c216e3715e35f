"""All tasks on one run, each in turn, and one page of their reports: RUN/tasks/index.html.

A task whose report was made from the same network, functaset, images and seed is not run again
(unless generate has left another prior since): the same command goes on after a stop, and what was
run by itself with settings of its own keeps them. A task that has no answer for such data is left
out. One that fails is named, its traceback is kept beside the reports, and the others go on.
"""

import contextlib
import json
import time
import traceback
from dataclasses import asdict, dataclass
from importlib import import_module

from functa_jax.tasks import task
from functa_jax.tasks.html import page
from groundfloor import checks, cli, tables
from groundfloor.errors import UserError, first_line
from groundfloor.runs import Stopping, atomic, duration, read_json

TASKS = {  # seconds on digits with two CPU cores, about; TAKE_PRIOR come after generate
    "classify": 240,
    "generate": 75,
    "inpaint": 60,
    "superresolve": 60,
    "denoise": 60,
    "interpolate": 15,
    "retrieve": 10,
    "compress": 60,
}
TAKE_PRIOR = ("inpaint", "superresolve", "denoise", "interpolate")


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """Which run, which tasks, and where and how to write."""

    only: tuple[str, ...] = ()
    """Names of tasks to run; default all."""

    def __post_init__(self):
        super().__post_init__()
        for name in self.only:
            why = f"no such task; tasks: {', '.join(TASKS)}"
            checks.require(name in TASKS, "only", name, why)


def main(config):
    """Run what is missing, then write the page of all reports that there are; returns these."""
    plan = Plan(config, task.load(config))  # each task reads the material for itself
    failed = run_all(config, plan)

    checked = {name: plan.report(name) for name in TASKS}
    for name, (_, fault) in checked.items():
        if fault and fault != MISSING:
            print(f"{name} is not on the page: its report {fault}")
    reports = plan.reports()
    for report in reports:
        tables.write(plan.out / report["task"], report["rows"], config.table)
    if reports:
        path = write_page(config, plan, reports)
        size = path.stat().st_size / 1e6
        print(f"\n{path}: {len(reports)} of {len(TASKS)} tasks, {size:.1f} MB")
    if failed:
        cli.fail(f"failed: {', '.join(failed)}; the same command tries them again", code=1)
    return {report["task"]: report for report in reports}


def run_all(config, plan):
    """Run the tasks of a plan whose reports are missing; returns the names of those that failed.

    Meanwhile the page, once there is a report, says which task is running.
    """
    left = [name for name in plan.names if plan.fault(name)]
    if left:
        total = duration(sum(map(plan.seconds, left)))
        print(
            f"{len(left)} of {len(plan.names)} tasks to run: {', '.join(left)}; about {total} on "
            f"two CPU cores; writing {plan.out}",
            flush=True,
        )
    failed, took, expected = [], 0.0, 0.0
    for number, name in enumerate(plan.names, 1):
        fault = plan.fault(name)
        if not fault:
            Stopping.kept = f"the reports in {plan.out}"
            own = plan.own(name)
            print(f"{name}: its report is there" + (f", with its own {own}" if own else ""))
            continue
        pace = took / expected if expected else 1.0
        where = f"task {number} of {len(plan.names)}: {name}"
        print(
            f"\n{where}, about {duration(pace * plan.seconds(name))}; {_question(name)}", flush=True
        )
        running = f"Running: {where}, since {time.strftime('%H:%M')}."
        if reports := plan.reports():
            write_page(config, plan, reports, running)
        if fault != MISSING:
            print(f"again, as its report {fault}")
        began = time.monotonic()
        try:
            if not _ends_well(plan, name):
                failed.append(name)
                continue
        except task.NotForThese as error:
            print(f"{name} is left out: {error}", flush=True)
            continue
        took, expected = took + time.monotonic() - began, expected + plan.seconds(name)
        Stopping.kept = f"the reports in {plan.out}"
        print(f"{name} took {duration(time.monotonic() - began)}", flush=True)
    return failed


def _ends_well(plan, name):
    """Run one task. If it fails it is said, and the traceback of a defect is kept in a file."""
    log = plan.out / f"{name}.error.txt"
    try:
        module_of(name).main(plan.settings(name))
        log.unlink(missing_ok=True)
        return True
    except task.NotForThese:
        raise
    except UserError as error:
        print(f"{name} failed: {error}", flush=True)
    except Exception as error:  # a defect: the other tasks go on
        with atomic(log) as temporary:
            temporary.write_text(traceback.format_exc())
        print(
            f"{name} failed: {type(error).__name__}: {first_line(error)}; traceback in {log}",
            flush=True,
        )
    return False


def write_page(config, plan, reports, running=""):
    """The page of the reports, with the questions that their modules begin with; returns its path.

    running: what is going on.
    """
    summary = (config.run if config.run.is_dir() else config.run.parent) / "summary.json"
    training = read_json(summary) if summary.exists() else {}
    same = isinstance(training, dict) and training.get("checkpoint") == plan.origin["checkpoint"]
    questions = {report["task"]: _question(report["task"]) for report in reports}
    path = plan.out / "index.html"
    title = f"{plan.data} as functa"  # of another network in the same folder nothing is said
    page.write(path, title, training if same else {}, reports, questions, running)
    return path


MISSING = "is missing"


class Plan:
    """Which tasks are to run with which settings, and what their reports are worth."""

    def __init__(self, config, material):
        self.names = [name for name in TASKS if name in (config.only or TASKS)]
        self.out, self.origin, self.data = material.out, material.origin, material.data.name
        self.values = material.data.train.values[0].size  # numbers in one image
        self.shared = {key: value for key, value in asdict(config).items() if key != "only"}

    def settings(self, name):
        """The task's Config."""
        return module_of(name).Config(**self.shared)

    def seconds(self, name):
        """How long a task may take: with larger images somewhat less than in proportion."""
        return TASKS[name] * max(1.0, self.values / 64) ** 0.8

    def fault(self, name):
        """Why a task must run, "is missing" or another end of "its report ..."; None if not."""
        report, fault = self.report(name)
        if not fault and report["config"].get("seed") != self.shared["seed"]:
            return f"has seed {report['config'].get('seed')}"
        return fault

    def reports(self):
        """The reports that can be used, in order."""
        return [report for report, fault in map(self.report, TASKS) if not fault]

    def own(self, name):
        """Settings that a report was made with and this command would not, as text."""
        asked = json.loads(json.dumps(asdict(self.settings(name)), default=str))
        made = self.report(name)[0]["config"]
        mine = [key for key in asked if key not in self.shared]
        return ", ".join(key for key in mine if made.get(key) != asked[key])

    def report(self, name):
        """(a task's report or None, why it cannot be used or None)."""
        path = self.out / f"{name}.json"
        if not path.exists():
            return None, MISSING
        try:
            report = read_json(path)
            complete = {"task", "data", "rows", "remarks", "config", "figures"} <= set(report)
            beside = [*report["figures"], *report.get("files", ())]
            complete = complete and all((self.out / name).is_file() for name in beside)
        except (UserError, TypeError):
            complete = False
        if not complete:
            return None, "is damaged or lacks files"
        other = [key for key, value in self.origin.items() if report.get(key) != value]
        if other:
            return None, f"was made from another {' and '.join(other)}"
        if name in ("generate", *TAKE_PRIOR) and report.get("prior") != task.prior_hash(self.out):
            return None, "was made with another prior than generate left"
        return report, None


def module_of(name):
    """The module of a task."""
    return import_module(f"functa_jax.tasks.{name}")


def _question(name):
    """The first line of the task's docstring; nothing if it cannot be read."""
    with contextlib.suppress(Exception):
        return module_of(name).__doc__.strip().splitlines()[0]
    return ""


if __name__ == "__main__":
    cli.run(main, Config)
