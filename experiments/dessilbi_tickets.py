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

from experiments import dessilbi, runner
from groundfloor import cli
from groundfloor.checks import Count, Flags
from groundfloor.runs import spread


@dataclass(frozen=True, kw_only=True)
class Config(dessilbi.DessilbiConfig):
    """Which runs."""

    find: Flags
    """More flags of DessiLBI's run."""
    epochs: tuple[Count, ...]
    """Epochs of that run whose support is tried."""
    train: Flags
    """More flags of the runs that train what is left."""


PRESETS = {
    "mnist": Config(
        preset="mnist-lenet",
        flags="--val-fraction 0",
        find="--penalty l1 --nu 100 --threshold 0.1 --epochs 3 --schedule constant",
        epochs=(1, 3),
        train="--epochs 5 --drop-every 4",
    ),
    "cifar10": Config(
        preset="cifar10-resnet",
        flags="--val-fraction 0",
        find="--epochs 35 --schedule constant",
        epochs=(5, 35),
        train="--epochs 160 --drop-every 60 --drop-factor 0.1",
    ),
}


def main(config, name):
    """Run what is missing, then write and print the table; returns what the JSON holds."""
    stem = f"dessilbi_tickets_{name}"
    out = config.folder(stem)
    find = [*shlex.split(config.find), "--keep-epochs", *config.epochs]
    dessilbi.train(config, out, {("find", seed): find for seed in config.seeds})
    words = {}
    train = [*dessilbi.SGD, *shlex.split(config.train)]
    for seed in config.seeds:
        words["dense", seed] = train
        for epoch in config.epochs:
            ticket = out / f"find-seed{seed}" / "kept" / f"epoch-{epoch:03d}.pt"
            for kind, masks in (("ticket", "support"), ("random", "random")):
                own = [*train, "--ticket", ticket, "--ticket-masks", masks]
                words[f"{kind}{epoch}", seed] = own
    summaries = dessilbi.train(config, out, words)
    table = []
    for kind in dict.fromkeys(kind for kind, _ in words):
        tests = [summaries[kind, seed]["test"]["w"] for seed in config.seeds]
        density = spread(test["density"] for test in tests)
        accuracy = spread(test["accuracy"] for test in tests)
        table.append({"masks": kind, "density": density, "test_accuracy": accuracy})
    path = config.results / f"{stem}.json"
    settings = {
        "flags": [config.preset, config.flags, config.find, config.train],
        "seeds": list(config.seeds),
    }
    facts = {**settings, "table": table}
    result = runner.write(path, f"dessilbi_tickets {name}", facts, summaries.values())
    print("\nmasks      density   test accuracy")
    for row in table:
        accuracy = runner.text(row["test_accuracy"], "%")
        print(f"{row['masks']:10s} {row['density']['mean']:.3f}     {accuracy}")
    print(path)
    return result


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
