"""Which parts of a small convolutional network matter on CIFAR-10, and how good is the best?

    python -m experiments.study digits         1 minute on 2 CPU cores; no result kept
    python -m experiments.study cifar10-cpu    45 minutes of one core
    python -m experiments.study cifar10        5 minutes on an H200; not yet run
    python -m experiments.study cifar10 --flags "--axes optimizers blocks --rates 0.7 2 6"
                                               on a GPU, 4 to 7 hours; not yet run

Every setting has its own rate, searched alike on validation with the first seed. Validation
chooses; test is looked at once, for the base and the best. A CPU has time for 300 steps of 64
images, less than half an epoch: differences between rows there are of early training.
Expected: cifar10-cpu above 50 %, cifar10 at least 95 % with 4.2 M parameters. A ResNet-9 of 6.6 M
parameters has 94 % after 24 epochs (Page 2018); here 74 epochs.
Results: study_NAME.csv, one row a trial, study_NAME.json, and its pictures study_NAME_*.png.
"""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import Flags, Seed


@dataclass(frozen=True)
class Config:
    """Which study."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of every trial."""
    flags: Flags = ""
    """More flags of optim_torch.study, as one string."""
    out: Path | None = None
    """Folder for the study; default runs/study_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table and the pictures."""

    def __post_init__(self):
        checks.check(self)


PRESETS = {
    "cifar10-cpu": Config(),
    "cifar10": Config(seeds=(0,)),
    "digits": Config(seeds=(0, 1)),
}


def main(config, name):
    """Run what is missing of the study and keep its table and pictures."""
    out = config.out or Path("runs") / f"study_{name}"
    command = ["optim_torch.study", name, *shlex.split(config.flags), "--seeds", *config.seeds]
    summary = runner.finished(command, out)
    stem = f"study_{name}"
    runner.keep(config, stem, out, command=f"python -m experiments.study {name}", **summary)
    shutil.copy(out / "results.csv", config.results / f"{stem}.csv")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
