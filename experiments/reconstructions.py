"""What do latents and PCA keep of an image, to the eye?

    python -m experiments.reconstructions        1 minute of one CPU core

The first test images of MNIST and CIFAR-10; what the functa of experiments/results and PCA make of
as many numbers (64; 8x8x16 = 1,024); for MNIST the latents once more at eight times the size, for
CIFAR-10, where the eye sees no difference, the errors times ten. Result: reconstructions.png.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import functa_jax
from experiments import runner
from functa_jax.evaluation import reconstruction
from groundfloor import checks, cli
from groundfloor.checks import Count
from groundfloor.data import datasets
from groundfloor.plots import as_rgb, bare, figure

FUNCTAS = {"mnist": "functa_mnist.npz", "cifar10": "functa_cifar10-spatial-cpu.npz"}
TIMES = 10


@dataclass(frozen=True)
class Config(checks.Settings):
    """Which images."""

    count: Count = 10
    """Images of each data set."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    results: Path = runner.RESULTS
    """Folder for the picture."""


def main(config):
    """Rebuild and draw; returns {data: {"latents", "PCA": PSNR in dB of each image}}."""
    rows, found = [], {}
    for name, file in FUNCTAS.items():
        functa = functa_jax.load(runner.RESULTS / file)
        data = datasets.load(name, config.data_dir)
        images = data.test.images[: config.count]
        seen = np.float32(images) / 255
        whole = reconstruction.whole_pca(data.train.images)
        pca = reconstruction.first_components(whole, functa.config.numbers)
        flat = seen.reshape(len(seen), -1)
        latents, _ = functa.encode(images)
        rebuilt = {
            "latents": functa.decode(latents),
            "PCA": pca.inverse_transform(pca.transform(flat)).reshape(seen.shape),
        }
        found[name] = {kind: psnr(pictures, seen) for kind, pictures in rebuilt.items()}
        rows.append((title(name), seen, None))
        for kind, pictures in rebuilt.items():
            rows.append((f"{kind}, {functa.config.numbers:,}", pictures, found[name][kind]))
        if name == "mnist":
            large = functa.decode(latents, resolution=8 * seen.shape[1])
            rows.append(("latents, ×8", large, None))
        else:
            for kind, pictures in rebuilt.items():
                rows.append((f"error of {kind}, ×{TIMES}", TIMES * np.abs(pictures - seen), None))
    draw(config.results / "reconstructions.png", rows)
    return found


def psnr(pictures, images):
    """PSNR in dB of each picture (n, h, w, C), a list."""
    errors = ((pictures - images) ** 2).mean(axis=(1, 2, 3))
    return (-10 * np.log10(errors)).tolist()


def title(name):
    """A data set as it is written."""
    return {"mnist": "MNIST", "cifar10": "CIFAR-10"}[name]


def draw(path, rows):
    """One row of pictures for each (label, pictures (n, h, w, C), PSNR of each or None)."""
    columns = len(rows[0][1])
    size = (0.62 * columns + 1.1, 0.72 * len(rows))
    with figure(path, len(rows), columns, size=size, squeeze=False) as (_, axes):
        for line, (label, pictures, values) in zip(axes, rows, strict=True):
            for place, axis in enumerate(line):
                axis.imshow(as_rgb(np.clip(pictures[place], 0, 1)))
                bare(axis)
                if values is not None:
                    axis.set_title(f"{values[place]:.1f} dB", fontsize=7, pad=2)
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)


if __name__ == "__main__":
    cli.run(main, Config)
