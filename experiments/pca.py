"""How well does PCA hold images with so many numbers? The row that stands beside every latent.

    python -m experiments.pca        1 minute of one CPU core

Fitted on all training images; mean of per-image PSNR over all test images, nothing clipped, nothing
quantised. PCA has one answer and no seed. Expected on CIFAR-10: 26.6, 30.8 and 37.9 dB with 256,
512 and 1,024 numbers; published functa have 27.2, 31.9 and 38.1 (report/published.json).
Results: pca.json.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from functa_jax.evaluation import reconstruction
from groundfloor import checks, cli
from groundfloor.data import datasets

SIZES = {
    "digits": (8, 16, 32),
    "mnist": (16, 32, 64, 128, 256),
    "cifar10": (16, 32, 64, 128, 256, 384, 512, 768, 1024, 1600, 2048),
}


@dataclass(frozen=True)
class Config(checks.Settings):
    """Where the images lie."""

    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    data: tuple[str, ...] = tuple(SIZES)
    """Data sets."""
    results: Path = runner.RESULTS
    """Folder for the table."""


def main(config):
    """Fit, write the table, print it; returns what the JSON holds."""
    rows = []
    for name in config.data:
        data = datasets.load(name, config.data_dir, val_fraction=0)
        whole = reconstruction.whole_pca(data.train.images)
        for numbers in SIZES[name]:
            model = reconstruction.first_components(whole, numbers)
            psnr = reconstruction.pca_psnr(model, data.test.images)
            rows.append({"data": name, "numbers": numbers, "test_psnr": psnr})
            print(f"{name:8s} {numbers:5d} {psnr:6.2f} dB", flush=True)
    return runner.write(config.results / "pca.json", "pca", {"table": rows})


if __name__ == "__main__":
    cli.run(main, Config)
