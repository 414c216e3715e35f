"""Does DessiLBI's early support make a winning ticket?

    python -m experiments.dessilbi_tickets --jobs 2      25 minutes on 2 CPU cores
    python -m experiments.dessilbi_tickets cifar10       on a GPU; not yet run

The support of Γ at an early epoch becomes a mask; the weights go back to their initial values, or
to those of the first kept epoch (rewinding, Frankle et al. 2020); SGD trains what is left. Beside
it masks that say what is in the support: random ones that keep as many entries (whole filters for
filter masks) in every layer; random ones with the same share of every layer; and as many of the
largest weights of the same epoch. All are trained as long, and so is the dense network; but those
that are rewound have DessiLBI's first epochs besides, so that they compare among each other.
Fu et al. 2020 claim parity with the dense network for VGG-16 and ResNet-50/56 on CIFAR-10.
Expected: from initial weights layer sizes are what counts (Su et al. 2020; Frankle et al. 2021).

All 60,000 train images; test is looked at once. Results: dessilbi_tickets_NAME.json.
"""

import itertools
import shlex
from dataclasses import dataclass

from experiments import dessilbi, runner
from groundfloor import cli
from groundfloor.checks import Count, Flags
from groundfloor.runs import spread
from optim_torch.training import tickets

STARTS = ("initial", "rewound")


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
    summaries = dessilbi.train(config, out, commands(config, out))
    table = []
    for epoch, masks, start in variants(config):
        tests = [summaries[kind(epoch, masks, start), seed]["test"]["w"] for seed in config.seeds]
        table.append(
            {
                "found_after": epoch,
                "masks": masks,
                "start": start,
                "density": spread(test["density"] for test in tests),
                "test_accuracy": spread(test["accuracy"] for test in tests),
            }
        )
    path = config.results / f"{stem}.json"
    settings = {
        "flags": [config.preset, config.flags, config.find, config.train],
        "seeds": list(config.seeds),
    }
    facts = {**settings, "table": table}
    result = runner.write(path, f"dessilbi_tickets {name}", facts, summaries.values())
    print("\nepoch  masks      start    density  test accuracy")
    for row in table:
        accuracy = runner.text(row["test_accuracy"], "%")
        mean = row["density"]["mean"]
        print(
            f"{row['found_after']:5} {row['masks']:10s} {row['start']:8s} {mean:.3f}    {accuracy}"
        )
    print(path)
    return result


def variants(config):
    """(epoch of the masks, masks, start) of every row; the dense networks' epoch is 0.

    Masks of the first epoch are not rewound: that would go on, not back.
    """
    rows = [(0, "dense", start) for start in STARTS]
    for epoch, masks in itertools.product(config.epochs, tickets.MASKS):
        starts = STARTS if epoch > min(config.epochs) else STARTS[:1]
        rows += [(epoch, masks, start) for start in starts]
    return rows


def kind(epoch, masks, start):
    """Of a variant's run folders."""
    return f"{masks}{epoch}-{start}" if epoch else f"{masks}-{start}"


def commands(config, out):
    """{(kind, seed): flags} of all runs that train what is left."""
    words = {}
    for seed, (epoch, masks, start) in itertools.product(config.seeds, variants(config)):
        kept = out / f"find-seed{seed}" / "kept"
        own = [*dessilbi.SGD, *shlex.split(config.train)]
        if epoch:
            own += ["--ticket", kept / f"epoch-{epoch:03d}.pt", "--ticket-masks", masks]
        if start == "rewound":
            own += ["--rewind", kept / f"epoch-{min(config.epochs):03d}.pt"]
        words[kind(epoch, masks, start), seed] = own
    return words


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
