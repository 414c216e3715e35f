"""How accurate is a Vision Transformer at densities 0.1 ... 0.9, method by method?

    python -m experiments.prune_sweep digits           15 minutes on 2 CPU cores; not yet run
    python -m experiments.prune_sweep cifar10-small    2 hours on 1 CPU core
    python -m experiments.prune_sweep cifar10-tiny     on a GPU; not yet run
    python -m experiments.prune_sweep cifar10-in21k    on a GPU, with timm's weights; not yet run

The same dense network, steps, batches and seeds for all methods; test is looked at once a cell.
Magnitude and DessiLBI once more with the dense network as teacher (cifar10-small: not yet
run, `--taught magnitude dessilbi`). What a CPU can do with CIFAR-10 in the time is far from
converged: 6,000 steps of 64 images for the dense network, 300 for a cell.
Published dense anchors of ViTs from ImageNet-21k on CIFAR-10: B/16 98.6-99.1 %, S/16 98.4-98.8 %.
Results: prune_NAME.csv, one row a cell, prune_NAME.json, and its pictures prune_NAME_*.png.
"""

import shlex
from dataclasses import dataclass

from experiments import runner
from groundfloor import cli


@dataclass(frozen=True, kw_only=True)
class Config(runner.SeededConfig):
    """Which sweep."""

    taught: tuple[str, ...] = ("magnitude", "dessilbi")
    """Methods that run with distillation, too."""


CPU = (
    "--methods unpruned random magnitude magnitude-late gradual l1 group-lasso dessilbi movement "
    "supermask --densities 0.1 0.3 0.5 0.2 0.7 0.9 0.4 0.6 0.8 "
    "--batch-size 64 --dense-steps 6000 --steps 300"
)
PRESETS = {
    "digits": Config(),
    "cifar10-small": Config(seeds=(0,), flags=CPU, taught=()),
    "cifar10-tiny": Config(),
    "cifar10-in21k": Config(seeds=(0,)),
}


def main(config, name):
    """Run what is missing, keep table and pictures; returns what the JSON holds."""
    out = config.folder(f"prune_sweep_{name}")
    command = ["prune_torch.sweep", name, *shlex.split(config.flags), "--seeds", *config.seeds]
    summary = runner.finished(command, out)
    if config.taught:
        taught = [*command, "--distil", 0.5, "--methods", *config.taught]
        summary = runner.finished(taught, out)
    return runner.keep(config, f"prune_{name}", f"prune_sweep {name}", out, summary)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
