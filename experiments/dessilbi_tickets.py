"""Does DessiLBI's early support make a winning ticket?

    python -m experiments.dessilbi_tickets --jobs 2      15 minutes on 2 CPU cores
    python -m experiments.dessilbi_tickets cifar10       on a GPU; not yet run

The support of Γ at an early epoch becomes a mask; the weights go back to their initial values; SGD
trains what is left. Beside it random masks that keep as many entries (whole filters for filter
masks) in every layer, and the dense network, all trained as long from the same initial weights.
Fu et al. 2020 claim parity with the dense network for VGG-16 and ResNet-50/56 on CIFAR-10.

All 60,000 train images; test is looked at once. Results: dessilbi_tickets_NAME.json.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import Count, Seed
from groundfloor.runs import environment, spread, write_json

KINDS = {"ticket": "support", "random": "random", "dense": None}


@dataclass(frozen=True)
class Config:
    """Which runs."""

    preset: str
    """Preset of optim_torch.train."""
    find: str
    """More flags of DessiLBI's run."""
    epochs: tuple[Count, ...]
    """Epochs of that run whose support is tried."""
    train: str
    """More flags of the runs that train what is left."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of each."""
    jobs: Count = 1
    """Runs side by side."""
    out: Path | None = None
    """Folder for the runs; default runs/dessilbi_tickets_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table."""

    def __post_init__(self):
        checks.check(self)


PRESETS = {
    "mnist": Config(
        "mnist-lenet",
        "--val-fraction 0 --penalty l1 --nu 100 --threshold 0.1 --epochs 3 --schedule constant",
        (1, 3),
        "--val-fraction 0 --epochs 5 --drop-every 4",
    ),
    "cifar10": Config(
        "cifar10-resnet",
        "--val-fraction 0 --epochs 35 --schedule constant",
        (5, 35),
        "--val-fraction 0 --epochs 160 --drop-every 60 --drop-factor 0.1",
    ),
}


def main(config, name):
    """Run what is missing, then write and print the table."""
    out = config.out or Path("runs") / f"dessilbi_tickets_{name}"
    keep = ["--keep-epochs", *config.epochs]
    find = {
        out / f"find-seed{seed}": [
            *["optim_torch.train", config.preset, *shlex.split(config.find), *keep, "--seed", seed]
        ]
        for seed in config.seeds
    }
    runner.all_finished(find, config.jobs)
    train = {}
    for seed in config.seeds:
        words = ["optim_torch.train", config.preset, "--optimizer", "sgd"]
        words += [*shlex.split(config.train), "--seed", seed]
        train[out / f"dense-seed{seed}"] = words
        for epoch in config.epochs:
            ticket = out / f"find-seed{seed}" / "kept" / f"epoch-{epoch:03d}.pt"
            for kind in ("ticket", "random"):
                train[out / f"{kind}{epoch}-seed{seed}"] = [
                    *[*words, "--ticket", ticket, "--ticket-masks", KINDS[kind]]
                ]
    summaries = runner.all_finished(train, config.jobs)
    rows = [
        "dense",
        *(f"{kind}{epoch}" for epoch in config.epochs for kind in ("ticket", "random")),
    ]
    table = [
        {
            "masks": row,
            "density": spread(
                summaries[out / f"{row}-seed{seed}"]["test"]["w"]["density"]
                for seed in config.seeds
            ),
            "test_accuracy": spread(
                summaries[out / f"{row}-seed{seed}"]["test"]["w"]["accuracy"]
                for seed in config.seeds
            ),
        }
        for row in rows
    ]
    path = config.results / f"dessilbi_tickets_{name}.json"
    write_json(
        path,
        {
            "command": f"python -m experiments.dessilbi_tickets {name}",
            "flags": [config.preset, config.find, config.train],
            "seeds": list(config.seeds),
            "table": table,
            **environment(),
        },
    )
    print("\nmasks      density   test accuracy")
    for row in table:
        accuracy = runner.percent(row["test_accuracy"])
        print(f"{row['masks']:10s} {row['density']['mean']:.3f}     {accuracy}")
    print(path)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
