"""Several runs side by side: one table, one figure.

    python -m functa_jax.compare runs/meta_train-digits runs/meta_train-digits-wide

Prints what each run reached, with the settings in which they differ, and writes compare.csv and
compare.png (PSNR on validation against outer steps) to --out. Runs on other images are refused.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import tyro

from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.plots import figure
from groundfloor.runs import atomic, read_json, read_rows

HEADINGS = ("run", "numbers", "PSNR (dB)", "PCA (dB)", "latents %", "PCA %", "pixels %", "seconds")


@dataclass(frozen=True)
class Config:
    """Which runs, and where to write."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of functa_jax.meta_train, finished."""
    out: Path = Path("runs/compare")
    """Folder for compare.csv and compare.png."""


def main(config):
    """Print the table and write it with its figure; returns the rows."""
    if len(config.runs) < 2:
        raise UserError("give at least two run folders to compare")
    summaries = {run: _read(run / "summary.json", "test_psnr") for run in config.runs}
    settings = {run: _read(run / "config.json", "latent_dim") for run in config.runs}
    if len({summary["data_fingerprint"] for summary in summaries.values()}) > 1:
        names = ", ".join(f"{run} ({summaries[run]['data']})" for run in config.runs)
        raise UserError(f"runs on different images cannot be compared: {names}")
    differing = [
        key
        for key in dict.fromkeys(key for one in settings.values() for key in one)
        if len({str(one.get(key)) for one in settings.values()}) > 1
    ]
    rows = [row(run, summaries[run], settings[run], differing) for run in config.runs]
    headings = [*HEADINGS, *differing]
    cells = [headings, *([row[heading] for heading in headings] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    config.out.mkdir(parents=True, exist_ok=True)
    with atomic(config.out / "compare.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(cells)
    draw(config.out / "compare.png", config.runs)
    print(f"{config.out / 'compare.csv'}\n{config.out / 'compare.png'}")
    return rows


def row(run, summary, settings, differing):
    """One line of the table: heading -> text."""
    accuracy = summary.get("accuracy") or {}
    pca = summary["pca_test_psnr"]
    told = {
        "run": str(run),
        "numbers": str(summary["numbers"]),
        "PSNR (dB)": f"{summary['test_psnr']:.2f}",
        "PCA (dB)": "-" if pca is None else f"{pca:.2f}",
        "seconds": f"{summary['train_seconds']:.0f}",
    }
    for features in ("latents", "PCA", "pixels"):
        known = accuracy.get(features)
        told[f"{features} %"] = f"{100 * known['test']:.2f}" if known else "-"
    return {**told, **{key: str(settings.get(key)) for key in differing}}


def draw(path, runs):
    """PSNR on validation after the last inner step against outer steps, a line a run."""
    with figure(path, size=(6.4, 3.2)) as (_, ax):
        for run in runs:
            rows = [row for row in read_rows(run / "metrics.jsonl") if "val_psnr" in row]
            steps, psnr = [row["step"] for row in rows], [row["val_psnr"][-1] for row in rows]
            ax.plot(steps, psnr, "o-", ms=3, lw=1.2, label=run.name)
        ax.set(xlabel="outer steps", ylabel="mean of per-image PSNR (dB), validation")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _read(path, key):
    if not path.exists():
        raise UserError(f"{path.parent} has no {path.name}: not a finished run of meta_train")
    contents = read_json(path)
    if not isinstance(contents, dict) or key not in contents:
        raise UserError(f"{path} is not of a run of functa_jax.meta_train")
    return contents


if __name__ == "__main__":
    cli.run(main, Config)
