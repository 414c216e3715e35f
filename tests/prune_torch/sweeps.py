"""Sweeps of the smallest size, in this process."""

import csv
import dataclasses
from types import SimpleNamespace

import numpy as np
import torch

from groundfloor import cli
from groundfloor.runs import read_json
from prune_torch import sweep
from prune_torch.protocol import report
from tests import tfds

torch.set_num_threads(1)

TINY = dataclasses.replace(
    sweep.PRESETS["digits"],
    images=64,
    batch_size=16,
    dense_steps=5,
    steps=10,
    jobs=1,
    model_args={
        "img_size": 8,
        "patch_size": 4,
        "in_chans": 1,
        "embed_dim": 12,
        "depth": 2,
        "num_heads": 3,
    },
)


def run(folder, *words):
    """Rows of all cells in the folder."""
    words = ["tiny", "--device", "cpu", *map(str, words), "--out", str(folder)]
    summary = cli.run(sweep.main, sweep.Config, {"tiny": TINY}, words)
    assert summary == read_json(folder / "summary.json")
    return report.finished(SimpleNamespace(path=folder.joinpath))


def table(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def prepared(folder, version="1.0.0", classes=3, channels=1, labels=True, seed=0):
    """A small TFDS set "small"."""
    images = tfds.pictures(90, channels=channels, seed=seed)
    rows = tfds.rows_of(images, np.arange(90) % classes if labels else None)
    known = {"num_classes": classes if labels else None, "shape": (8, 8, channels)}
    parts = {"train": rows[:70], "test": rows[70:]}
    tfds.write_tfds(folder, "small", parts, version=version, **known)
