"""Does BatchNorm smooth the landscape, and does it widen the range of learning rates?

    python -m experiments.landscape digits            14 minutes on 2 CPU cores
    python -m experiments.landscape cifar10-light     26 minutes on 2 CPU cores
    python -m experiments.landscape cifar10-course    on a GPU; not yet run
    python -m experiments.landscape cifar10-paper     on a GPU; not yet run

Santurkar et al. 2018 (VGG, SGD 0.1, no augmentation): 83 % with BatchNorm, 80 % without; narrower
bands of loss and of the gradient's change with it; effective β near 20 with and without, which is
1 / (0.5 * 0.1), the reciprocal of the shortest length. So β is reported for each length here.

Rates are compared on validation images. Results: landscape_NAME.json and its pictures.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import Flags, Seed


@dataclass(frozen=True)
class Config:
    """Which run."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of every network."""
    flags: Flags = ""
    """More flags of optim_torch.landscape, as one string."""
    out: Path | None = None
    """Folder for the run; default runs/landscape_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table and the pictures."""

    def __post_init__(self):
        checks.check(self)


PRESETS = {
    "digits": Config(),
    "cifar10-light": Config(flags="--steps 400 --rates 0.05 0.1 0.2"),  # one epoch
    "cifar10-course": Config(),
    "cifar10-paper": Config(),
}


def main(config, name):
    """Run what is missing and keep its table and pictures."""
    out = config.out or Path("runs") / f"landscape_{name}"
    command = ["optim_torch.landscape", name, *shlex.split(config.flags), "--seeds", *config.seeds]
    summary = runner.finished(command, out)
    stem = f"landscape_{name}"
    runner.keep(config, stem, out, command=f"python -m experiments.landscape {name}", **summary)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
