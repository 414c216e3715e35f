"""Does BatchNorm smooth the landscape? Train networks with and without it, and measure.

At some steps the batch's loss and gradient are followed along a line through the weights (Santurkar
et al. 2018, `optim_torch.probe`); at every step the change of the gradient since the step before is
kept (the course's distance). Results: summary.json, traces/, and pictures. A stopped run goes on
where it was.
"""

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.model_selection import train_test_split

from common import batches, cli, datasets
from common.runs import Progress, Run, duration
from optim_torch import bands, traces
from optim_torch.models.vgg_a import NORMS, VGG_A_MODELS
from optim_torch.probe import DIRECTIONS, cost

NOT_IDENTITY = ("data_dir", "download", "out", "name", "device")


@dataclass(frozen=True)
class Config:
    """The networks, their training, and what is measured."""

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
    name: str | None = None
    """Suffix of the run folder."""
    out: Path | None = None
    """Run folder; default runs/landscape-PRESET[-NAME]."""

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


COURSE_RATES = (1e-3, 2e-3, 1e-4, 5e-4)
PRESETS = {
    "digits": Config(
        **{"dataset": "digits", "model": "VGG_A_Light", "batch_size": 64},
        **{"steps": 400, "probe_every": 5, "rates": (0.03, 0.1, 0.3, 1.0)},
    ),
    "cifar10-light": Config(
        model="VGG_A_Light", rates=(0.02, 0.05, 0.1, 0.2), steps=1500, probe_every=20
    ),
    "cifar10-course": Config(optimizer="adam", rates=COURSE_RATES, steps=7000),
    "cifar10-paper": Config(),
}


def main(config, preset):
    """Train what is missing, measure, draw; returns the summary."""
    device = batches.choose_device(config.device)
    data_set = load(config)
    specs = [
        traces.Spec(norm, rate, seed)
        for norm in config.norms
        for rate in config.rates
        for seed in config.seeds
    ]
    traces.build(config, specs[0], data_set)  # an impossible one is refused before any file
    suffix = f"-{config.name}" if config.name else ""
    identity = {key: value for key, value in asdict(config).items() if key not in NOT_IDENTITY}
    run = Run(config.out or Path("runs") / f"landscape-{preset}{suffix}", identity)
    passes = cost(config.lengths) * -(-config.steps // config.probe_every)
    print(
        f"{len(specs)} networks, {config.steps:,} steps each; probes take {passes:,} of "
        f"{passes + config.steps:,} passes: {100 * passes / (passes + config.steps):.0f} %",
        flush=True,
    )
    found = {}
    with Progress(len(specs) * config.steps, "step") as progress:
        for spec in specs:
            found[spec] = traces.record(
                config, spec, data_set, device, run.path("traces"), progress
            )
    seconds = sum(float(trace["seconds"]) for trace in found.values())
    probing = sum(float(trace["probe_seconds"]) for trace in found.values())
    print(f"{duration(seconds)} in all, {100 * probing / seconds:.0f} % of it for the probes")
    summary = bands.summary(found)
    run.write_summary(table=summary, seconds=seconds, probe_seconds=probing)
    bands.draw(run.path("figures"), found)
    show(summary, run)
    return run.summary()


def load(config):
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


def show(table, run):
    """Print the summary, a line for each network and rate."""
    print("\nnorm    rate      test accuracy     width of loss   change of gradient   β: shortest")
    print("                                                       (medians over steps)    longest")
    for row in table:
        low, *_, high = row["beta"]
        print(
            f"{row['norm']:7s} {row['rate']:<8g} {100 * row['test']['mean']:6.2f} ± "
            f"{100 * (row['test']['std'] or 0):4.2f} %   {row['loss_width']:12.4f}   "
            f"{row['change_most']:15.4f}      {low:9.3f} {high:9.3f}"
        )
    print(f"\n{run.folder}: summary.json, traces/, figures/")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
