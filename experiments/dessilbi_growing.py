"""How large does a network grow that starts narrow and widens where its filters are in use?

    python -m experiments.dessilbi_growing --jobs 2      10 minutes on 2 CPU cores
    python -m experiments.dessilbi_growing cifar10       on a GPU; not yet run

Fu et al.: a layer grows when the selected share of its filters passes τ = 0.8; with VGG on CIFAR-10
they end at 2.69 million parameters and 94.82 % (the full VGG-16 has 14.7 million). Here, widening
keeps the function of the network. Beside it the full network, trained as long by SGD, and the grown
shape trained from scratch by SGD: what growing itself is worth.

All 60,000 train images; test is looked at once. Results: dessilbi_growing_NAME.json, .png.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import Count, Flags, Seed
from groundfloor.plots import figure
from groundfloor.runs import environment, read_rows, spread, write_json


@dataclass(frozen=True)
class Config:
    """Which runs."""

    preset: str
    """Preset of optim_torch.train."""
    flags: Flags
    """More flags of all runs."""
    grow: str
    """More flags of the growing run."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of each."""
    jobs: Count = 1
    """Runs side by side."""
    out: Path | None = None
    """Folder for the runs; default runs/dessilbi_growing_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""

    def __post_init__(self):
        checks.check(self)


PRESETS = {
    "mnist": Config(
        "mnist-lenet",
        "--val-fraction 0 --epochs 10 --drop-every 8",
        "--widths 2 4 8 16 --penalty filter --nu 20 "
        "--grow-tau 0.8 --grow-every 1 --grow-until 7 --grow-at-least 2",
    ),
    "cifar10": Config(
        "cifar10-vgg",
        "--val-fraction 0 --lr 0.05 --weight-decay 0 --epochs 240 --drop-every 200",
        "--widths 16 16 16 16 16 16 16 16 16 16 16 16 16 "
        "--grow-tau 0.8 --grow-every 10 --grow-until 200 --grow-at-least 8",
    ),
}


def main(config, name):
    """Run what is missing, then write, draw and print the table."""
    out = config.out or Path("runs") / f"dessilbi_growing_{name}"
    words = ["optim_torch.train", config.preset, *shlex.split(config.flags)]
    first = {}
    for seed in config.seeds:
        grow = shlex.split(config.grow)
        first[out / f"grown-seed{seed}"] = [*words, *grow, "--seed", seed]
        first[out / f"full-seed{seed}"] = [*words, "--optimizer", "sgd", "--seed", seed]
    summaries = runner.all_finished(first, config.jobs)
    second = {}
    for seed in config.seeds:
        widths = summaries[out / f"grown-seed{seed}"]["widths"]
        second[out / f"same-shape-seed{seed}"] = [
            *[*words, "--optimizer", "sgd", "--widths", *widths, "--seed", seed]
        ]
    summaries |= runner.all_finished(second, config.jobs)
    table = {}
    for kind in ("grown", "same-shape", "full"):
        runs = [summaries[out / f"{kind}-seed{seed}"] for seed in config.seeds]
        table[kind] = {
            "parameters": spread(run["parameters"] for run in runs),
            "test_accuracy": spread(run["test"]["w"]["accuracy"] for run in runs),
            "widths": [run["widths"] for run in runs],
        }
    path = config.results / f"dessilbi_growing_{name}.json"
    write_json(
        path,
        {
            "command": f"python -m experiments.dessilbi_growing {name}",
            "flags": [config.preset, config.flags, config.grow],
            "seeds": list(config.seeds),
            "table": table,
            **environment(),
        },
    )
    with figure(path.with_suffix(".png"), size=(4.2, 2.8)) as (_, axis):
        for seed in config.seeds:
            rows = read_rows(out / f"grown-seed{seed}" / "metrics.jsonl")
            sizes = [row["parameters"] for row in rows if "parameters" in row]
            epochs = [row["epoch"] for row in rows if "parameters" in row]
            axis.step(epochs, sizes, where="post", label=f"seed {seed}")
        axis.set(xlabel="epoch", ylabel="parameters")
        axis.set_ylim(bottom=0)
        axis.legend()
    print("\nnetwork      parameters   test accuracy")
    for kind, row in table.items():
        accuracy = runner.percent(row["test_accuracy"])
        print(f"{kind:12s} {row['parameters']['mean']:10,.0f}   {accuracy}")
    print(path)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
