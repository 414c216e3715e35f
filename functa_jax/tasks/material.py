"""What every task starts from (a run, its functaset, its images) and leaves behind (a report)."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common import datasets
from common.checks import Seed
from common.errors import UserError
from common.runs import environment, write_json
from functa_jax.functaset import SPLITS, Functaset, load_functaset


@dataclass(frozen=True)
class TaskConfig:
    """Which run a task works on, and where it writes."""

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


@dataclass(frozen=True, eq=False)
class Material:
    """A Functa, its Functaset, and the common.datasets.Dataset that both were made from.

    data.SPLIT.images and labels belong to functaset.SPLIT row by row, but for augmented copies of
    train, which follow after the images themselves in the same order.
    """

    functa: "Functa"  # noqa: F821 -- JAX is imported when a task begins
    functaset: Functaset
    data: datasets.Dataset
    out: Path
    folder: Path | None = None  # of the run, if there is one; keeps the PCA of its images

    def path(self, name):
        """A file of the report."""
        return self.out / name


def load(config):
    """The Material of a TaskConfig.

    Raises UserError, in one line, if the run is not finished, or if functaset or data are others
    than those of the run.
    """
    from functa_jax import devices

    devices.one_cpu_device_per_core()
    from functa_jax.exporter import data_of
    from functa_jax.functa import load as load_functa

    functa = load_functa(config.run)
    folder = config.run if config.run.is_dir() else config.run.parent
    path = config.functaset or folder / "functaset.npz"
    functaset = load_functaset(path)
    if functaset.metadata.get("checkpoint") != functa.hash:
        raise UserError(f"{path} was made by another functa than {config.run}; export it again")
    data = data_of(functa, config.run, config.data_dir)
    same = functaset.metadata.get("data_fingerprint", data.fingerprint) == data.fingerprint
    for name in SPLITS:
        ids, split = getattr(functaset, name).ids, getattr(data, name)
        copies = len(ids) // max(len(split), 1) if name == "train" else 1
        same &= np.array_equal(ids, np.tile(split.ids, copies))
    if not same:
        raise UserError(f"{path} was made from other images than those of {data.name} found")
    if config.seed < 0:
        raise UserError(f"--seed {config.seed}: must not be negative")
    out = config.out or folder / "tasks"
    if any(place.exists() and not place.is_dir() for place in (out, *out.parents)):
        raise UserError(f"--out {out}: a file lies where the report's folder should be")
    kept = folder if (folder / "config.json").exists() else None
    return Material(functa, functaset, data, out, kept)


def report(material, task, config, rows, figures, remarks=()):
    """Write `task`.json, print its table, and return the path.

    rows: list of dicts, column -> value, the table of the report; figures: names of the files in
    material.out that belong to it; remarks: sentences a reader needs to judge the table.
    """
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    about = {
        "task": task,
        "data": material.data.name,
        "checkpoint": material.functa.hash,
        "numbers": material.functa.config.numbers,
        "rows": rows,
        "figures": list(figures),
        "remarks": list(remarks),
        "config": settings,
    }
    path = material.path(f"{task}.json")
    write_json(path, {**about, **environment()})
    print(f"\n{table(rows)}\n")
    for remark in remarks:
        print(remark)
    print(", ".join(str(material.path(name)) for name in (path.name, *figures)), flush=True)
    return path


def table(rows):
    """Rows (dicts with mostly the same columns) as aligned text; numbers to four digits."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns] + [[text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def text(value):
    """A cell of a table as text."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
