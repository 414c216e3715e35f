"""Several runs side by side: one table, one figure.

    python -m functa_jax.compare runs/meta_train-digits runs/meta_train-digits-wide

Prints what each run reached, with the settings in which they differ, and writes the table and
compare.png (PSNR on validation against outer steps) to --out. Runs on other images are refused.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from groundfloor import cli, plots, tables
from groundfloor.errors import UserError, first_line
from groundfloor.plots import figure
from groundfloor.runs import read_dict, read_rows

NEEDED = ("data", "data_fingerprint", "numbers", "test_psnr", "pca_test_psnr", "train_seconds")


@dataclass(frozen=True)
class Config:
    """Which runs, and where to write."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of functa_jax.meta_train, finished."""
    out: Path = Path("runs/compare")
    """Folder for the table and the figure."""
    table: Literal["csv", "tex"] = "csv"
    """Format of the table's file."""
    figures: plots.Kind = "png"
    """Format of the figure; pdf, svg: vector graphics beside the PNG file."""


def main(config):
    """Print the table and write it with its figure; returns the rows."""
    if len(config.runs) < 2:
        raise UserError("give at least two run folders to compare")
    summaries = {run: _read(run / "summary.json", *NEEDED) for run in config.runs}
    settings = {run: _read(run / "config.json", "latent_dim") for run in config.runs}
    images = {
        f"{summaries[run]['data_fingerprint']} {settings[run].get('images')}" for run in summaries
    }
    if len(images) > 1:  # also of another --images, whose test split is another part
        names = ", ".join(f"{run} ({summaries[run]['data']})" for run in config.runs)
        raise UserError(f"runs on different images cannot be compared: {names}")
    differing = [
        key
        for key in dict.fromkeys(key for one in settings.values() for key in one)
        if len({str(one.get(key)) for one in settings.values()}) > 1
    ]
    rows = []
    for run in config.runs:
        with _damage_in(run):
            rows.append(row(run, summaries[run], settings[run], differing))
    path = config.out / f"compare.{config.table}"
    tables.write(path.with_suffix(""), rows, config.table)
    plots.use(config.figures)
    draw(path.with_suffix(".png"), config.runs)
    print(f"{tables.as_text(rows)}\n{path}\n{path.with_suffix('.png')}")
    return rows


def row(run, summary, settings, differing):
    """One line of the table: column -> value."""
    accuracy = summary.get("accuracy") or {}
    values = {
        "run": str(run),
        "numbers": summary["numbers"],
        "PSNR (dB)": summary["test_psnr"],
        "PCA (dB)": summary["pca_test_psnr"],
    }
    if "modality" in summary:  # of other functions than images
        metric = f"{summary['metric']} ({summary['unit']})".removesuffix(" ()")
        values[metric] = summary["test_metric"]
        for name, rival in summary["rivals"].items():
            values[f"{name}, {metric}"] = rival["metric"]
    for features in ("latents", "PCA", "values" if "modality" in summary else "pixels"):
        judged = accuracy.get(features)
        values[f"{features} %"] = 100 * judged["test"] if judged else None
    values["seconds"] = summary["train_seconds"]
    for column, value in values.items():
        if column != "run" and not tables.is_number(value):
            raise TypeError(f"{column} is {value!r}")
    return {**values, **{key: str(settings.get(key)) for key in differing}}


def draw(path, runs):
    """PSNR on validation after the last inner step against outer steps, a line a run."""
    with figure(path, size=(plots.WIDTH, 3.2)) as (made, ax):
        for number, run in enumerate(runs):
            name = run.name.replace("$", r"\$")  # else a formula
            with _damage_in(run):
                rows = [row for row in read_rows(run / "metrics.jsonl") if "val_psnr" in row]
                steps = [int(row["step"]) for row in rows]
                psnr = [float(row["val_psnr"][-1]) for row in rows]
            ax.plot(steps, psnr, marker="o", ms=3, lw=1.2, label=name, **plots.many(number))
        ax.set(xlabel="outer steps", ylabel="mean of per-image PSNR (dB), validation")
        plots.legend(made, ax)


@contextmanager
def _damage_in(run):
    """What does not hold what meta_train writes is a UserError that names the run."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run} is damaged: it does not hold what meta_train writes ({first_line(error)})"
        ) from None


def _read(path, *keys):
    if not path.exists():
        raise UserError(f"{path.parent} has no {path.name}: not a finished run of meta_train")
    return read_dict(path, "results or settings of functa_jax.meta_train", *keys)


if __name__ == "__main__":
    cli.run(main, Config)
