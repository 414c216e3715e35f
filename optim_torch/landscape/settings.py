"""Which networks a landscape is measured on, how they are trained, and on which images."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from sklearn.model_selection import train_test_split

from groundfloor import checks, output
from groundfloor.checks import Count, CountOrZero, Positive, Seed, ShareBelowOne
from groundfloor.data.config import SOURCE, DataConfig
from groundfloor.errors import UserError, first_line
from groundfloor.precision import Precision
from groundfloor.runs import counted
from optim_torch.landscape.probing import DIRECTIONS
from optim_torch.models.vgg_a import NORMS, VGG_A_MODELS

COURSE_RATES = (1e-3, 2e-3, 1e-4, 5e-4)  # for Adam
# What may differ on resuming; the images' fingerprint tells what was skipped.
NOT_IDENTITY = (*SOURCE, "device", *output.FIELDS)
MODELS = tuple(name for name in VGG_A_MODELS if name != "VGG_A_BatchNorm")  # norms say it here
OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class Settings(DataConfig):
    """The networks, their training, and what is measured on the way."""

    dataset: str = "cifar10"
    n_items: Annotated[int, checks.Interval(-1, checks.LARGEST)] = -1
    """Train on this many images, as many of each class as in the whole; -1: on all."""
    val_fraction: ShareBelowOne = 0.1
    """Share of train that is held out for validation; 0: the training loss compares rates."""

    model: Literal[MODELS] = "VGG_A"
    """The course's network."""
    scale: Annotated[float, checks.Interval(0, 10, without_low=True)] = 1.0
    """Of all its widths."""
    norms: tuple[str, ...] = ("none", "batch")
    """After each convolution: none, batch, layer, group, l1, l2, linf."""

    optimizer: Literal[OPTIMIZERS] = "sgd"
    """Plain SGD as in the paper, or Adam as in the course."""
    rates: tuple[Positive, ...] = (0.1,)
    """Learning rates, one network each."""
    batch_size: Count = 128
    """Images per step."""
    steps: Count = 15_000
    """Training steps."""
    probe_every: Count = 50
    """Steps between probes."""
    lengths: tuple[Positive, ...] = (0.5, 1, 2, 4)
    """Lengths of a probe, in learning rates."""
    direction: Literal[DIRECTIONS] = "gradient"
    """Along the gradient, the optimizer's next step, or at random."""
    curvature: CountOrZero = 0
    """Training images whose Hessian's largest eigenvalue is found at each probe, in batches of
    --batch-size, with the sharpness of the probe's own batch; 0: neither. A last batch of one image
    is left out. It costs 10 to 60 passes over these images a probe."""

    precision: Precision = "float32"
    """Of the training steps, whose gradients "change" compares; probes are float32. auto: bfloat16
    where it makes a step on this device faster by 15 %."""

    seeds: tuple[Seed, ...] = (0,)
    """Seeds of weights and batches."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""

    def __post_init__(self):
        for name in ("norms", "rates", "lengths", "seeds"):
            values = getattr(self, name)
            checks.require(isinstance(values, tuple | list), name, values, "must be a tuple")
            checks.require(len(values), name, values, "needs at least one")
            checks.require(len(set(values)) == len(values), name, values, "names one twice")
        checks.require(self.curvature != 1, "curvature", 1, "must be 0, or at least 2")
        choices = {
            "model": MODELS,
            "optimizer": OPTIMIZERS,
            "direction": DIRECTIONS,
            "precision": get_args(Precision),
        }
        for name, names in choices.items():
            value = getattr(self, name)
            checks.require(value in names, name, value, f"must be one of {', '.join(names)}")
        for norm in self.norms:
            words = f"unknown norm; norms: none, {', '.join(NORMS)}"
            checks.require(norm == "none" or norm in NORMS, "norms", norm, words)
        super().__post_init__()
        floats = np.finfo(np.float32)
        for rate in self.rates:
            for length in (1, *self.lengths):
                why = f"at length {length:g} it is beyond what 32-bit numbers can tell"
                inside = float(floats.tiny) <= rate * length <= float(floats.max)
                checks.require(inside, "rates", rate, why)
        checks.require(
            self.n_items == -1 or self.n_items >= self.batch_size,
            "n_items",
            self.n_items,
            f"must be -1 or at least --batch-size ({self.batch_size})",
        )
        checks.require(
            self.batch_size > 1 or set(self.norms) == {"none"},
            "batch_size",
            self.batch_size,
            "normalisers need at least 2 images",
        )


def load_data(config):
    """The data set, its training images cut down to `n_items`.

    UserError, in one line, if it is missing, or if these networks cannot be trained on it.
    """
    data_set = config.load(val_fraction=config.val_fraction)
    data_set.require(classes=2)
    height, width = data_set.train.images.shape[1:3]
    if height != width:
        raise UserError(
            f"{config.dataset} has images of {height}x{width}; the networks take squares"
        )
    count = len(data_set.train)
    only = f"{config.dataset} has only {counted(count, 'train image')}"
    checks.refuse_beyond("n_items", config.n_items, count, only)
    checks.refuse_beyond("curvature", config.curvature, count, only)
    checks.refuse_beyond("batch_size", config.batch_size, count, only)
    if config.n_items in (-1, count):
        return data_set
    try:
        rows, _ = train_test_split(
            np.arange(count),
            train_size=config.n_items,
            stratify=data_set.train.labels,
            random_state=0,
        )
    except ValueError as error:
        raise UserError(
            f"--n-items {config.n_items}: cannot take as many of each class as in the whole "
            f"({first_line(error)})"
        ) from None
    return dataclasses.replace(data_set, train=data_set.train.take(np.sort(rows)))
