"""What a sweep leaves: its table, pictures and summary."""

import csv

from groundfloor.runs import atomic, read_dict, read_json, write_json
from prune_torch import compact, density
from prune_torch.methods import METHODS
from prune_torch.network import tokens
from prune_torch.protocol import figures, fitting

COLUMNS = (
    "method",
    "density",
    "seed",
    "distil",
    "top1",
    "top1_low",
    "top1_high",
    "top5",
    "loss",
    "val_top1",
    "nonzero",
    "total",
    "density_all",
    "density_blocks",
    "exact",
    "note",
    "gigaflops",
    "megabytes",
    "latency_ms",
    "latency_ratio",
    "steps",
    "extra_passes",
    "seconds",
    "checkpoint",
)


def finished(run):
    """The rows (dicts) in the folder, also of earlier commands, in the order of the methods."""
    order = list(METHODS)
    paths = run.path("cells").glob("[!.]*.json")  # none that a kill cut short
    rows = [read_dict(path, "cell", "method", "density", "seed", "distil") for path in paths]

    def place(row):
        return row["distil"], order.index(row["method"]), row["density"] or 0, row["seed"]

    return sorted((row for row in rows if row["method"] in order), key=place)


def write(config, bench, run, rows, dense, refused):
    """results.csv, figures/, summary.json, and the table on the screen; returns the summary.

    dense: dict of val and test numbers of the dense network. refused: lines on what was left out.
    """
    with atomic(run.path("results.csv")) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    merged = _merging(config, bench, run)
    figures.accuracy(run.path("figures", "accuracy.png"), rows, dense["test"], bench.classes)
    figures.layers(run.path("figures", "layers.png"), rows)
    figures.cost(run.path("figures", "cost.png"), rows, merged, dense["test"])
    if any("heads" in row for row in rows):
        figures.groups(run.path("figures", "groups.png"), rows)
    prunable = density.prunable(bench.model, config.prunable).values()
    stays_dense = 1 - sum(p.numel() for p in prunable) / compact.parameters(bench.model)
    run.write_summary(
        dense=dense,
        gigaflops_dense=compact.flops(bench.model) / 1e9,
        stays_dense=stays_dense,
        left_out=refused,
        token_merging=merged,
        cells=len(rows),
    )
    show(rows, dense["test"], stays_dense)
    print(f"\n{run.folder}: results.csv, figures/, summary.json, one network for each cell")
    return run.summary()


def show(rows, dense, stays_dense):
    """Print top-1 and top-5 at every density, means over seeds."""
    levels = sorted({row["density"] for row in rows} - {None})
    for column in ("top1", "top5"):
        title = f"{column[:3]}-{column[3:]} in %"
        print(f"\n{title:22s}" + "".join(f"{level:8g}" for level in levels))
        for name, own in figures.lines(rows).items():
            means = figures.means(own, column)
            if None in means:
                reached = figures.means(own, "density_all")[None][0]
                note = f", {own[0]['note']}" if own[0]["note"] else ""
                print(f"{name:22s}{100 * means[None][0]:8.2f} at {reached:.3f}{note}")
            else:
                numbers = [f"{100 * means[x][0]:8.2f}" if x in means else 8 * " " for x in levels]
                print(f"{name:22s}" + "".join(numbers))
        print(f"{'dense':22s}{100 * dense[column]:8.2f}")
    print(f"\ndensity counts all parameters; {100 * stays_dense:.1f} % of them always stay")
    missed = {r["method"]: r["note"] for r in rows if not r["exact"] and r["density"] is not None}
    for method, note in missed.items():
        print(f"{method}: not to the last weight at its level ({note}); see results.csv")


def _merging(config, bench, run):
    """The curve of token merging, kept in a file."""
    path = run.path("token_merging.json")
    kept = read_json(path) if path.exists() else []
    rates = fitting.merged_tokens(config, bench.model)
    if [row["r"] for row in kept] != list(rates):
        kept = tokens.curve(bench.task, bench.model, rates)
        write_json(path, kept)
    return kept
