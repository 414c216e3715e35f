"""Runs of optim_torch.train of the smallest size, in this process."""

import shlex

import torch

from groundfloor import cli
from groundfloor.pytorch import checkpoints
from optim_torch import train

torch.set_num_threads(1)


PICTURES = ("curves", "path", "layers")
SMALL = shlex.split("--widths 2 3 6 5 --epochs 6 --threshold 0.3")


def run(folder, *words):
    """The command on digits with a small LeNet; returns the summary."""
    words = ["digits", *SMALL, "--device", "cpu", "--out", str(folder), *map(str, words)]
    return cli.run(train.main, train.Config, train.PRESETS, words)


def state(folder):
    """Everything of the newest checkpoint but the clock on the wall."""
    found = checkpoints.newest(folder / "checkpoints", "cpu")
    found.pop("seconds")
    return found
