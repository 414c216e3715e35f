"""How does the PSNR of MNIST functa grow with the numbers in a latent, beside PCA?

    python -m experiments.mnist_latent_sizes                (about 70 minutes on 2 CPU cores)

Trains one modulated SIREN for each size with the mnist preset's network and a shorter budget, the
same for all, and gathers test PSNR and accuracy beside PCA with as many numbers. Resumable.
Results: experiments/results/mnist_latent_sizes.json and .png. Expected: 3 to 7 dB above PCA.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.errors import UserError
from common.runs import environment, read_json, write_json
from functa_jax import figures

RESULTS = Path(__file__).parent / "results"
KEPT = (
    *("latent_dim", "seed", "outer_steps", "test_psnr", "test_psnr_after_steps", "pca_test_psnr"),
    *("accuracy", "train_seconds", "device", "checkpoint"),
)


@dataclass(frozen=True)
class Config:
    """Which sizes, and how long to train each."""

    sizes: tuple[int, ...] = (16, 32, 64, 128)
    """Numbers per image."""
    steps: int = 5000
    """Outer steps of each run."""
    classifier_rows: int = 10_000
    """Training latents for the classifier."""
    seed: int = 0
    """Seed of all runs."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path = Path("runs/mnist_latent_sizes")
    """Folder for the runs."""
    results: Path = RESULTS
    """Folder for the table and the figure."""


def main(config):
    """Run what is missing, then write the table."""
    summaries = []
    for size in config.sizes:
        folder = config.out / f"latent{size}"
        options = {
            "latent-dim": size,
            "steps": config.steps,
            "classifier-rows": config.classifier_rows,
            "seed": config.seed,
            "on-divergence": "rollback",
            "out": folder,
            **({"data-dir": config.data_dir} if config.data_dir else {}),
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        done = subprocess.run([sys.executable, "-m", "functa_jax.meta_train", "mnist", *flags])
        if done.returncode:
            raise UserError(f"the run of {size} numbers did not end well; see above")
        summaries.append(read_json(folder / "summary.json"))
    table = [{key: summary[key] for key in KEPT} for summary in summaries]
    command = "python -m experiments.mnist_latent_sizes"
    write_json(
        config.results / "mnist_latent_sizes.json",
        {"command": command, "data": "mnist", "runs": table, **environment()},
    )
    figures.latent_sizes(config.results / "mnist_latent_sizes.png", summaries)
    for row in table:
        accuracy = {name: f"{100 * r['test']:.2f} %" for name, r in row["accuracy"].items()}
        print(row["latent_dim"], f"{row['test_psnr']:.2f}", f"{row['pca_test_psnr']:.2f}", accuracy)


if __name__ == "__main__":
    cli.run(main, Config)
