"""How large does a network grow that starts narrow and widens where its filters are in use?

    python -m experiments.dessilbi_growing --jobs 2      10 minutes on 2 CPU cores
    python -m experiments.dessilbi_growing cifar10       on a GPU; not yet run

Fu et al.: a layer grows when the selected share of its filters passes τ = 0.8; with VGG on CIFAR-10
they end at 2.69 million parameters and 94.82 % (the full VGG-16 has 14.7 million). Here, widening
keeps the function of the network. Beside it the full network, trained as long by SGD, and the grown
shape trained from scratch by SGD: what growing itself is worth.

MNIST's network starts with 4 filters: of a start with 2 the first layer died in one seed of three
(the training loss stayed at ln 10 from the first epoch on).

All 60,000 train images; test is looked at once. Results: dessilbi_growing_NAME.json, .png.
"""

import shlex
from dataclasses import dataclass

from experiments import dessilbi, runner
from groundfloor import cli
from groundfloor.checks import Flags
from groundfloor.plots import WIDTH, figure, legend
from groundfloor.runs import read_rows, spread


@dataclass(frozen=True, kw_only=True)
class Config(dessilbi.DessilbiConfig):
    """Which runs."""

    grow: Flags
    """More flags of the growing run."""


PRESETS = {
    "mnist": Config(
        preset="mnist-lenet",
        flags="--val-fraction 0 --epochs 10 --drop-every 8",
        grow="--widths 4 8 16 16 --penalty filter --nu 20 "
        "--grow-tau 0.8 --grow-every 1 --grow-until 7 --grow-at-least 2",
    ),
    "cifar10": Config(
        preset="cifar10-vgg",
        flags="--val-fraction 0 --lr 0.05 --weight-decay 0 --epochs 240 --drop-every 200",
        grow="--widths 16 16 16 16 16 16 16 16 16 16 16 16 16 "
        "--grow-tau 0.8 --grow-every 10 --grow-until 200 --grow-at-least 8",
    ),
}


def main(config, name):
    """Run what is missing, then write, draw and print the table; returns what the JSON holds."""
    stem = f"dessilbi_growing_{name}"
    out = config.folder(stem)
    first, second = {}, {}
    for seed in config.seeds:
        first["grown", seed] = shlex.split(config.grow)
        first["full", seed] = dessilbi.SGD
    summaries = dessilbi.train(config, out, first)
    for seed in config.seeds:
        widths = summaries["grown", seed]["widths"]
        second["same-shape", seed] = [*dessilbi.SGD, "--widths", *widths]
    summaries |= dessilbi.train(config, out, second)
    table = {}
    for kind in ("grown", "same-shape", "full"):
        runs = [summaries[kind, seed] for seed in config.seeds]
        table[kind] = {
            "parameters": spread(run["parameters"] for run in runs),
            "test_accuracy": spread(run["test"]["w"]["accuracy"] for run in runs),
            "widths": [run["widths"] for run in runs],
        }
    path = config.results / f"{stem}.json"
    settings = {"flags": [config.preset, config.flags, config.grow], "seeds": list(config.seeds)}
    facts = {**settings, "table": table}
    result = runner.write(path, f"dessilbi_growing {name}", facts, summaries.values())
    with figure(path.with_suffix(".png"), size=(WIDTH, 2.6)) as (made, axis):
        for seed in config.seeds:
            rows = read_rows(out / f"grown-seed{seed}" / "metrics.jsonl")
            rows = [row for row in rows if "parameters" in row]
            sizes = [row["parameters"] for row in rows]
            axis.step([row["epoch"] for row in rows], sizes, where="post", label=f"seed {seed}")
        axis.set(xlabel="epoch", ylabel="parameters")
        axis.set_ylim(bottom=0)
        legend(made, axis)
    print("\nnetwork      parameters   test accuracy")
    for kind, row in table.items():
        accuracy = runner.text(row["test_accuracy"], "%")
        print(f"{kind:12s} {row['parameters']['mean']:10,.0f}   {accuracy}")
    print(path)
    return result


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
