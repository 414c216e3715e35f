"""The study's table: printed, as results.csv, in summary.json, and in pictures."""

from dataclasses import asdict
from statistics import mean

from groundfloor import tables
from groundfloor.runs import counted, duration
from optim_torch.study import figures


def write(run, table, results):
    """results.csv (one row a trial), pictures of all trials, and summary.json (last)."""
    trials = [
        {
            "axis": entry["axis"],
            **{key: v for key, v in row.items() if key not in ("curve", "weights")},
        }
        for entry in table
        for row in entry["rows"]
    ]
    tables.write(run.path("results"), trials, "csv")
    shown = [summarised(entry) for entry in table]
    if len(shown) > 1:  # there is something to compare
        figures.accuracy(run.path("figures", "accuracy.png"), shown)
        figures.cost(run.path("figures", "cost.png"), shown)
    figures.training(run.path("figures", "training.png"), table)
    run.write_summary(**results, table=shown)


def summarised(entry):
    """One line of the table, over seeds; JSON-able."""
    rows = entry["rows"]
    densities = [row["density"] for row in rows if row["density"] is not None]
    return {
        "axis": entry["axis"],
        "value": entry["value"],
        "setting": asdict(entry["setting"]),
        "rate_at_end": entry["at_end"],
        "val": entry["val"],
        "parameters": entry["parameters"],
        "seconds": mean(row["seconds"] for row in rows),
        "density": mean(densities) if densities else None,
        "diverged": [row["diverged"] for row in rows if row["diverged"]],
    }


def show(run):
    """Print what summary.json holds."""
    summary = run.summary()
    print(f"\n{summary['dataset']}, {counted(len(summary['seeds']), 'seed')}, {summary['device']}")
    print("chosen on validation (mean ± standard deviation); test for the base and the best alone")
    print("axis         value                     validation       parameters   seconds   rate")
    for row in summary["table"]:
        notes = f"   density of Γ {row['density']:.3f}" if row["density"] is not None else ""
        if row["rate_at_end"]:
            notes += "   the best rate is the last that was tried"
        if row["diverged"]:
            steps = ", ".join(f"{step:,}" for step in row["diverged"])
            notes += f"   {len(row['diverged'])} of {len(summary['seeds'])} seeds diverged, "
            notes += f"by step {steps}"
        print(
            f"{row['axis']:12s} {row['value']!s:24s} {percent(row['val'])}"
            f"  {row['parameters']:10,}  {row['seconds']:8.1f}   x{row['setting']['rate']:g}{notes}"
        )
    best = summary["best"]
    print(f"\ntest accuracy, base  {percent(summary['test']['base'])}")
    name = f"{best['axis']} {best['value']}".strip()
    print(f"test accuracy, best  {percent(summary['test']['best'])}   ({name})")
    total = sum(row["seconds"] for row in summary["table"]) * len(summary["seeds"])
    print(f"training took {duration(total)} besides the search of rates")
    print(f"{run.folder}: results.csv, summary.json, cells/, surface.npz, figures/")


def lines(summary):
    """The printed table as rows of plain values, for a file."""
    return [
        {
            "axis": row["axis"],
            "value": row["value"],
            "validation mean": row["val"]["mean"],
            "validation std": row["val"]["std"],
            "seeds": row["val"]["seeds"],
            "parameters": row["parameters"],
            "seconds": row["seconds"],
            "rate": row["setting"]["rate"],
            "density": row["density"],
        }
        for row in summary["table"]
    ]


def percent(spread):
    """ "98.51 ± 0.07 %"; without ± of one seed, and "diverged" of none; always as wide."""
    if spread["mean"] is None:
        return f"{'diverged':>15s}"
    std = " " * 7 if spread["std"] is None else f" ± {100 * spread['std']:4.2f}"
    return f"{100 * spread['mean']:6.2f}{std} %"
