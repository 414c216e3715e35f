"""Two functas to look at, for the page of results: one of MNIST, one of CIFAR-10.

    python -m experiments.viewers      2 minutes of one CPU core

The networks are those of experiments/results (functa_mnist.npz, functa_cifar10_gauss_newton.npz);
what their pages hold is encoded here: some test images, and enough train images for the directions
in which latents differ. Results: viewer_mnist.html, viewer_cifar10.html, which need no server.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import runner
from functa_jax import view
from functa_jax.functaset import SPLITS, Functaset, Latents
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo, Count
from groundfloor.data import datasets
from groundfloor.runs import Progress

FUNCTAS = {"mnist": "functa_mnist.npz", "cifar10": "functa_cifar10_gauss_newton.npz"}


@dataclass(frozen=True)
class Config(checks.Settings):
    """How much each page holds, and where it goes."""

    images: Count = 24
    """Test images on each page, spread over the split."""
    train_images: AtLeastTwo = 600
    """Train images, spread over the split, whose latents have the principal directions."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    results: Path = runner.RESULTS
    """Folder for the pages."""


def main(config):
    """Encode and write; returns the paths of the pages."""
    from functa_jax.functa import load

    paths = []
    with Progress(len(FUNCTAS), "page", seconds=0) as progress:
        for name, file in FUNCTAS.items():
            data = datasets.load(name, config.data_dir)
            counts = {"train": config.train_images, "val": 1, "test": config.images}
            parts = {split: spaced(getattr(data, split), counts[split]) for split in SPLITS}
            functa = load(runner.RESULTS / file)
            functaset = encoded(functa, parts, data)
            path = config.results / f"viewer_{name}.html"
            rows = np.arange(len(parts["test"]))
            view.write(path, functa, functaset, rows, parts["test"].images)
            paths.append(path)
            progress.advance(1, page=path.name, psnr=f"{functaset.test.psnr.mean():.2f} dB")
    return paths


def spaced(split, count):
    """At most `count` images of a split, evenly spaced."""
    return split.take(np.linspace(0, len(split) - 1, min(count, len(split))).astype(int))


def encoded(functa, parts, data):
    """The Functaset of some images of each split of a data set."""
    made = {}
    for name, split in parts.items():
        latents, psnr = functa.encode(split.images)
        made[name] = Latents(np.asarray(latents), split.labels, split.ids, np.asarray(psnr))
    train = made["train"].latents
    about = {"data": data.name, "data_fingerprint": data.fingerprint, "checkpoint": functa.hash}
    return Functaset(**made, mean=train.mean(0), std=train.std(0), metadata=about)


if __name__ == "__main__":
    cli.run(main, Config)
