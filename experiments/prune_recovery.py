"""How many steps of recovery does each kind of method need?

    python -m experiments.prune_recovery cifar10-small    an hour of one core

The same dense network, one density, methods without a search, several budgets. A sweep for each
budget, which goes on where it was. What a method computes beside its steps, such as a fit of the
weights that stay, counts as steps of as many passes: the curve begins there, with accuracy before
recovery.
Result: prune_recovery_NAME.json and .png.
"""

import shlex
from dataclasses import dataclass
from statistics import mean

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo, PositiveShare
from groundfloor.plots import figure
from groundfloor.runs import read_json, spread
from prune_torch.methods import METHODS


@dataclass(frozen=True, kw_only=True)
class Config(runner.SeededConfig):
    """Which curves."""

    methods: tuple[str, ...] = ("magnitude", "wanda-refit", "sparsegpt", "relevance", "oats")
    """Methods that spend all their steps on recovery."""
    budgets: tuple[AtLeastTwo, ...] = (10, 50, 200, 1000)
    """Steps of a cell."""
    density: PositiveShare = 0.3
    """Nonzero parameters / all parameters."""

    def __post_init__(self):
        search = [name for name in self.methods if name not in METHODS or METHODS[name].share]
        checks.require(not search, "methods", search[:1], "must be a method without a search")
        checks.require(self.budgets, "budgets", "", "needs at least one")
        super().__post_init__()


TWO = ("magnitude", "magnitude-refit")
PRESETS = {
    "cifar10-small": Config(methods=TWO, budgets=(60, 250, 310)),
    "digits": Config(budgets=(5, 20, 80)),
}


def main(config, name):
    """Run what is missing, draw the curves; returns what the JSON holds."""
    folder, rows, summaries = config.folder(f"prune_recovery_{name}"), [], []
    for budget in config.budgets:
        out = folder / f"steps-{budget}"
        command = ["prune_torch.sweep", name, *shlex.split(config.flags), "--steps", budget]
        command += ["--methods", *config.methods, "--densities", config.density]
        summaries.append(runner.finished([*command, "--seeds", *config.seeds], out))
        found = [read_json(path) for path in sorted((out / "cells").glob("[!.]*.json"))]
        rows += [row for row in found if wanted(row, config)]
    dense = summaries[-1]["dense"]
    curves = points(rows, config.methods)
    draw(config.results / f"prune_recovery_{name}.png", curves, dense["test"]["top1"])
    facts = {"dense": dense, "density": config.density, "seeds": list(config.seeds)}
    path = config.results / f"prune_recovery_{name}.json"
    rows = [{"method": method, **point} for method in curves for point in curves[method]]
    facts["table"] = rows
    return runner.write(path, f"prune_recovery {name}", facts, summaries)


def wanted(row, config):
    """Whether a cell is one of these curves: a sweep's folder may hold others, too."""
    ours = row["density"] == config.density and row["seed"] in config.seeds
    return ours and row["method"] in config.methods and not row["distil"]


def points(rows, methods):
    """dict of method -> its curve: dicts of steps of recovery, passes with those of the method's
    own beside them (mean over seeds), top1 (its mean and std over seeds)."""
    curves = {}
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        extra = mean(row["extra_passes"] for row in own)
        seen = {0: {row["seed"]: row["top1_before"] for row in own}}  # the same for any budget
        for row in own:
            seen.setdefault(row["steps"], {})[row["seed"]] = row["top1"]
        curves[method] = [
            {"steps": steps, "passes": steps + extra, "top1": spread(seen[steps].values())}
            for steps in sorted(seen)
        ]
    return curves


def draw(path, curves, dense):
    """Test top-1 in percent against steps and passes, with the spread over seeds."""
    with figure(path, size=(5.5, 4)) as (_, axis):
        for method, curve in curves.items():
            axis.errorbar(
                [point["passes"] for point in curve],
                [100 * point["top1"]["mean"] for point in curve],
                [100 * (point["top1"]["std"] or 0) for point in curve],
                label=method,
                marker="o",
                markersize=3,
                linewidth=1,
            )
        axis.axhline(100 * dense, color="gray", linestyle=":", label="dense")
        axis.set(xlabel="steps of recovery, and passes before them", ylabel="test top-1 in %")
        axis.set_xlim(left=0)
        axis.legend(fontsize=7)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
