'''What every task starts from (a run, its functaset, its images) and leaves behind (a report).

A new task is one file and one line. The file, say functa_jax/tasks/brightness.py:

    """How bright are the test images?"""

    from dataclasses import dataclass

    from functa_jax.tasks import task
    from groundfloor import cli
    from groundfloor.checks import Count

    @dataclass(frozen=True)
    class Config(task.TaskConfig):
        """How many images."""
        count: Count = 100
        """Test images, at most."""

    def main(config):
        material = task.load(config)
        images = material.data.test.images[: config.count]
        rows = [{"images": len(images), "mean": float(images.mean() / 255)}]
        return task.report(material, "brightness", config, rows)

    if __name__ == "__main__":
        cli.run(main, Config)

and the line in TASKS of functa_jax/tasks/__main__.py, with its seconds: "brightness": 5.
'''

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from functa_jax.functaset import COLUMNS, SPLITS, Functaset, find_shards, load_functaset
from groundfloor import checks, plots, tables
from groundfloor.checks import Seed
from groundfloor.data import datasets
from groundfloor.data.functions import FunctionSet
from groundfloor.errors import UserError
from groundfloor.machine import environment
from groundfloor.runs import content_hash, write_json

PRIORS = ("prior.npz", "prior_pca.npz")  # what generate leaves beside its report


@dataclass(frozen=True)
class TaskConfig(checks.Settings):
    """Which run a task works on, and where and how it writes."""

    run: Path
    """Run folder of functa_jax.meta_train."""
    functaset: Path | None = None
    """Functaset of that run; default functaset.npz in its folder."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path | None = None
    """Folder for the report; default tasks/ in the run folder."""
    seed: Seed = 0
    """Seed of everything random in the task."""
    figures: plots.Kind = "png"
    """pdf, svg: all figures as vector graphics, too, beside the PNG."""
    table: tables.Kind = None
    """The printed table as a file, too: csv, or tex for LaTeX with booktabs."""


@dataclass(frozen=True, eq=False)
class Material:
    """A Functa, its Functaset, and the Dataset or FunctionSet that both were made from.

    data.SPLIT.values and labels belong to functaset.SPLIT row by row, but for augmented copies of
    train, which follow after the images themselves in the same order.
    """

    functa: "Functa"  # noqa: F821 -- JAX is imported when a task begins
    functaset: Functaset
    data: datasets.Dataset | FunctionSet
    out: Path
    folder: Path | None = None  # of the run, if there is one; keeps the PCA of its images

    def path(self, name):
        """A file of the report."""
        return self.out / name

    @property
    def copies(self):
        """Augmented copies of each train image in the functaset, beside the image itself."""
        return len(self.functaset.train) // len(self.data.train) - 1

    @cached_property
    def unaugmented(self):
        """The Functaset without augmented copies: its rows are those of data, also of train."""
        return replace(self.functaset, train=self.functaset.train[: len(self.data.train)])

    @cached_property
    def origin(self):
        """Hashes of what a report is made from: checkpoint, functaset, data_fingerprint."""
        digest = hashlib.sha256()
        for split in (getattr(self.functaset, name) for name in SPLITS):
            for column in COLUMNS:
                values = np.ascontiguousarray(getattr(split, column))
                digest.update(f"{column} {values.dtype} {values.shape}".encode() + values.tobytes())
        return {
            "checkpoint": self.functa.hash,
            "functaset": digest.hexdigest()[:16],
            "data_fingerprint": self.data.fingerprint,
        }


class NotForThese(UserError):
    """A task has no answer for data of this kind, whatever the flags: no classes, say."""


def load(config, images_only=False):
    """The Material of a TaskConfig. images_only: NotForThese where it is of other functions.

    Raises UserError, in one line, if the run is not finished, if functaset or data are others
    than those of the run, or if train has no two images that differ.
    """
    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    from functa_jax.functa import load as load_functa
    from functa_jax.training.exporter import data_of

    functa = load_functa(config.run)
    if images_only and not functa.of_images:
        raise NotForThese(f"{config.run} is of {functa.config.modality}: this task is for images")
    folder = config.run if config.run.is_dir() else config.run.parent
    path = config.functaset or folder / "functaset.npz"
    try:
        functaset = load_functaset(path)
    except UserError as error:
        if config.functaset or path.exists() or find_shards(path):
            raise
        raise UserError(
            f"{error}: python -m functa_jax.export --run {config.run} --out FILE makes it, "
            "to be given as --functaset FILE"
        ) from None
    if functaset.metadata.get("checkpoint") != functa.hash:
        raise UserError(f"{path} was made by another functa than {config.run}; export it again")
    functa = replace(functa, lbfgs_steps=functaset.metadata.get("lbfgs_steps", 0))
    data = data_of(functa, config.run, config.data_dir)
    same = functaset.metadata.get("data_fingerprint", data.fingerprint) == data.fingerprint
    for name in SPLITS:
        ids, split = getattr(functaset, name).ids, getattr(data, name)
        copies = len(ids) // max(len(split), 1) if name == "train" else 1
        same &= np.array_equal(ids, np.tile(split.ids, copies))
    if not same:
        raise UserError(f"{path} was made from other {data.noun}s than those of {data.name} found")
    values = data.train.values
    if len(values) < 2 or (values == values[0]).all():
        raise UserError(
            f"{data.name} has no two train {data.noun}s that differ: nothing to compare"
        )
    out = config.out or folder / "tasks"
    if any(place.exists() and not place.is_dir() for place in (out, *out.parents)):
        raise UserError(f"--out {out}: a file lies where the report's folder should be")
    plots.use(config.figures)
    run = folder if (folder / "config.json").exists() else None
    return Material(functa, functaset, data, out, run)


def require_common_points(data):
    """NotForThese where functions are not all known at the same points."""
    if not data.train.aligned:
        raise NotForThese(f"functions of {data.name} have no points in common")


def require(data, why, **needs):
    """NotForThese, "WHY: what is missing", where a Dataset lacks what `Dataset.require` asks."""
    try:
        data.require(**needs)
    except UserError as error:
        raise NotForThese(f"{why}: {error}") from None


def spaced(total, count):
    """At most `count` places among `total`, evenly spaced: int (n,)."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


def trial(work):
    """Seconds that work() takes at first, when it compiles, and when it is called again."""
    times = [time.monotonic()]
    for _ in range(2):
        work()
        times.append(time.monotonic())
    return np.diff(times)


def prior_hash(out):
    """What the priors that lie in the folder `out` contain, as text; "" without any."""
    return " ".join(content_hash(out / name) for name in PRIORS if (out / name).exists())


def report(material, task, config, rows, figures=(), remarks=(), files=()):
    """Write `task`.json, and the table as config.table says; print and return the report.

    rows: list of dicts, column -> value, the table of the report; figures, files: names of the
    pictures and of other files in material.out that belong to it; remarks: sentences a reader needs
    to judge the table.
    """
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    content = {
        "task": task,
        "data": material.data.name,
        **material.origin,
        "prior": prior_hash(material.out),
        "numbers": material.functa.config.numbers,
        "rows": rows,
        "figures": list(figures),
        "files": list(files),
        "remarks": list(remarks),
        "config": settings,
        **environment(),
    }
    write_json(material.path(f"{task}.json"), content)
    tables.write(material.path(task), rows, config.table)
    print(f"\n{tables.as_text(rows)}\n")
    for remark in remarks:
        print(remark)
    names = [f"{task}.json", *figures, *files]
    names += [f"{task}.{config.table}"] if config.table else []
    print(", ".join(str(material.path(name)) for name in names), flush=True)
    return content
