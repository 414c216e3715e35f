"""Which parts of a small convolutional network matter on CIFAR-10, and how good is the best?

    python -m experiments.study digits         1 minute on 2 CPU cores; no result kept
    python -m experiments.study cifar10-cpu    45 minutes of one core
    python -m experiments.study cifar10-base   an hour of one core: where other networks start from
    python -m experiments.study cifar10-94     3 seeds, 48 minutes each of one core with
                                               bfloat16, 86 of two with AVX2 alone
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

from experiments import runner
from groundfloor import cli

Config = runner.PresetConfig
PRESETS = {
    "cifar10-cpu": Config(),
    "cifar10-94": Config(),
    "cifar10-base": Config(preset="cifar10-94", flags="--width 0.5 --steps 423", seeds=(0,)),
    "cifar10": Config(seeds=(0,)),
    "digits": Config(seeds=(0, 1)),
}


def main(config, name):
    """Run what is missing, keep its table and pictures; returns what the JSON holds."""
    return runner.run_and_keep(config, "study", name)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
