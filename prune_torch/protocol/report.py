"""The results of a sweep: tables, pictures and summary."""

from groundfloor import plots, precision, tables
from groundfloor.runs import read_dict, read_json, write_json
from prune_torch import costs, density
from prune_torch.methods import METHODS
from prune_torch.network import tokens
from prune_torch.protocol import families, figures, fitting, pairs

COLUMNS = (
    "method",
    "density",
    "seed",
    "distil",
    "top1",
    "top1_low",
    "top1_high",
    "top5",
    "top1_before",
    "top5_before",
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
    """results.csv, figures/, summary.json, and tables on the screen; returns the summary.

    dense: dict of val and test numbers of the dense network. refused: lines on what was left out.
    """
    results = [{column: row.get(column) for column in COLUMNS} for row in rows]
    tables.write(run.path("results"), results, "csv")
    merged, against = _merging(config, bench, run), pairs.differences(rows)
    plots.use(config.figures)
    figures.accuracy(run.path("figures", "accuracy.png"), rows, dense["test"])
    figures.difference(run.path("figures", "difference.png"), rows)
    figures.layers(run.path("figures", "layers.png"), rows)
    figures.cost(run.path("figures", "cost.png"), rows, merged, dense["test"])
    if any("heads" in row for row in rows):
        figures.groups(run.path("figures", "groups.png"), rows)
    prunable = density.prunable(bench.model, config.prunable).values()
    stays_dense = 1 - sum(p.numel() for p in prunable) / costs.parameters(bench.model)
    run.write_summary(
        dense=dense,
        gigaflops_dense=costs.flops(bench.model) / 1e9,
        stays_dense=stays_dense,
        left_out=refused,
        token_merging=merged,
        precision=config.precision,
        precision_seconds=precision.timed(run.path("precision.json")),
        against_magnitude=against,
        cells=len(rows),
    )
    for column in ("top1", "top5", "top1_before"):
        table = accuracy_table(rows, dense["test"], column)
        name = f"{column[:3]}-{column[3]}"
        when = ", before the steps of recovery" if column.endswith("before") else ""
        print(f"\ntest {name} in % at each density{when}\n{tables.as_text(table)}")
        tables.write(run.path(column), table, config.table)
    overall = [line for line in against if line["density"] == "all"]
    if overall:
        print(f"\ntop-1 above magnitude's, in points, by pairs of seeds\n{tables.as_text(overall)}")
    if against:
        tables.write(run.path("against_magnitude"), against, config.table)
    print(f"\ndensity counts all parameters; {100 * stays_dense:.1f} % of them always stay")
    missed = {r["method"]: r["note"] for r in rows if not r["exact"] and r["density"] is not None}
    for method, note in missed.items():
        print(f"{method}: not to the last weight at its level ({note}); see results.csv")
    print(f"\n{run.folder}: results.csv, figures/, summary.json, one network for each cell")
    return run.summary()


def accuracy_table(rows, dense, column):
    """Means of `column` over seeds in %: a row (dict) a method, a column a density.

    A method that chooses its density has "own", at the mean density "reached". The dense network is
    at density 1.
    """
    levels = sorted({row["density"] for row in rows} - {None})
    table = []
    for name, own in families.lines(rows).items():
        line = {"method": name, **dict.fromkeys(f"{level:g}" for level in levels)}
        for level, (mean, _) in families.means([r for r in own if column in r], column).items():
            line["own" if level is None else f"{level:g}"] = 100 * mean
            if level is None:
                line["reached"] = families.means(own, "density_all")[None][0]
        table.append(line)
    return [*table, {"method": "dense", "1": 100 * dense[column.removesuffix("_before")]}]


def _merging(config, bench, run):
    """The curve of token merging, kept in a file."""
    path = run.path("token_merging.json")
    kept = read_json(path) if path.exists() else []
    rates = fitting.merged_tokens(config, bench.model)
    if [row["r"] for row in kept] != list(rates):
        kept = tokens.curve(bench.task, bench.model, rates)
        write_json(path, kept)
    return kept
