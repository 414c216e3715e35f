"""Which networks a landscape is measured on, how they are trained, and on which images."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.model_selection import train_test_split

from common import datasets
from optim_torch.models.vgg_a import NORMS, VGG_A_MODELS
from optim_torch.probe import DIRECTIONS

COURSE_RATES = (1e-3, 2e-3, 1e-4, 5e-4)  # for Adam
NOT_IDENTITY = ("data_dir", "download", "out", "name", "device")  # may differ on resuming


@dataclass(frozen=True)
class Settings:
    """The networks, their training, and what is measured on the way."""

    dataset: str = "cifar10"
    """Data set: digits, cifar10, or any prepared TFDS set of 8x8 or 32x32 images in --data-dir."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    download: bool = False
    """Let torchvision download the data set if it is missing."""
    n_items: int = -1
    """Train on this many images, as many of each class as in the whole; -1: on all."""
    val_fraction: float = 0.1
    """Share of train that is held out for validation."""

    model: Literal[tuple(VGG_A_MODELS)] = "VGG_A"
    """The course's network."""
    scale: float = 1.0
    """Of all its widths."""
    norms: tuple[str, ...] = ("none", "batch")
    """After each convolution: none, batch, layer, group, l1, l2, linf."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """Plain SGD as in the paper, or Adam as in the course."""
    rates: tuple[float, ...] = (0.1,)
    """Learning rates, one network each."""
    batch_size: int = 128
    """Images per step."""
    steps: int = 15_000
    """Training steps."""
    probe_every: int = 50
    """Steps between probes."""
    lengths: tuple[float, ...] = (0.5, 1, 2, 4)
    """Lengths of a probe, in learning rates."""
    direction: Literal[DIRECTIONS] = "gradient"
    """Along the gradient, the optimizer's next step, or at random."""

    seeds: tuple[int, ...] = (0,)
    """Seeds of weights and batches."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""

    def __post_init__(self):
        for name in ("norms", "rates", "lengths", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"--{name} needs at least one")
        for norm in self.norms:
            if norm != "none" and norm not in NORMS:
                raise ValueError(f"unknown norm {norm!r}; norms: none, {', '.join(NORMS)}")
        for name in ("rates", "lengths"):
            if min(getattr(self, name)) <= 0:
                raise ValueError(f"--{name} must be above 0")
        for name in ("batch_size", "steps", "probe_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
        if self.scale <= 0:
            raise ValueError("--scale must be above 0")
        if self.n_items != -1 and self.n_items < self.batch_size:
            raise ValueError("--n-items must be -1 or at least --batch-size")


def load_data(config):
    """The data set, its training images cut down to `n_items`."""
    data_set = datasets.load(
        config.dataset, config.data_dir, download=config.download, val_fraction=config.val_fraction
    )
    count = len(data_set.train.labels)
    if config.n_items == -1 or config.n_items >= count:
        return data_set
    rows, _ = train_test_split(
        np.arange(count),
        **{"train_size": config.n_items, "stratify": data_set.train.labels, "random_state": 0},
    )
    return dataclasses.replace(data_set, train=data_set.train.take(np.sort(rows)))
