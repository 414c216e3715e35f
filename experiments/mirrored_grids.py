"""Is a mirrored image free? A fixed linear map of each mirrored cell, beside encoding it.

    python -m experiments.mirrored_grids      5 minutes of one CPU core

A reader of latents wants mirrored copies of its images, and encoding them doubles the time. With
local coordinates the cells of a mirrored image are those of the image in the other order, each seen
from the other side. Here each latent of the mirrored image is predicted from those of the image:
by the cell in its place, left as it is; by one linear map of that cell, the same for all cells; by
one of the 3x3 cells about it. Maps are least squares over the cells of train images: 128,000 rows
for at most 144 inputs, where a ridge's penalty changes nothing. Nothing is chosen on test.

PSNR is of decoded pictures against the mirrored image, mean of per-image; R² of all latents.
Results: mirrored_grids.json.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

import functa_jax
from experiments import runner
from functa_jax.evaluation.reconstruction import mean_psnr
from groundfloor import checks, cli
from groundfloor.checks import Count
from groundfloor.data import datasets
from groundfloor.errors import UserError

WEIGHTED = "variance_weighted"  # by how much each number varies
FUNCTA = runner.RESULTS / "functa_cifar10-spatial-cpu.npz"


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """Which network and images."""

    functa: Path = FUNCTA
    """Network with a grid of latents: a run folder or functa.npz."""
    dataset: str = "cifar10"
    """Images, of the network's size."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    images: Count = 2000
    """Images of train to fit to, and of test to look at."""
    results: Path = runner.RESULTS
    """Folder for the table."""


def main(config):
    """Encode, fit, compare; returns what the JSON holds."""
    functa = functa_jax.load(config.functa)
    if not functa.config.grid:
        raise UserError(f"--functa {config.functa}: its latents are no grid")
    data = datasets.load(config.dataset, config.data_dir)
    given, wanted = {}, {}
    for name in ("train", "test"):
        images = getattr(data, name).images[: config.images]
        print(f"encoding {len(images):,} images of {name}, twice", flush=True)
        given[name] = functa.encode(images)[0][:, :, ::-1]
        wanted[name] = functa.encode(images[:, :, ::-1])[0]
    mirrored = np.float32(data.test.images[: config.images, :, ::-1]) / 255

    def row(name, found):
        errors = np.square(functa.decode(found).clip(0, 1) - mirrored).mean((1, 2, 3))
        return {
            "latents": name,
            "r2": float(r2_score(rows(wanted["test"]), rows(found), multioutput=WEIGHTED)),
            "test_psnr": float(mean_psnr(errors)),
        }

    table = [row("the image's, cells mirrored", given["test"])]
    for name, inputs in (("each cell by one map", rows), ("3x3 cells by one map", neighbourhoods)):
        fitted = LinearRegression().fit(inputs(given["train"]), rows(wanted["train"]))
        found = fitted.predict(inputs(given["test"])).reshape(wanted["test"].shape)
        table.append(row(name, np.float32(found)))
    table.append(row("encoded", wanted["test"]))
    path = config.results / "mirrored_grids.json"
    result = runner.write(path, "mirrored_grids", {"images": config.images, "table": table})
    for line in table:
        print(f"{line['latents']:28s} R² {line['r2']:7.4f}   {line['test_psnr']:6.2f} dB")
    print(path)
    return result


def rows(latents):
    """(n, s, s, L) -> (n s s, L): a row a cell."""
    return latents.reshape(-1, latents.shape[-1])


def neighbourhoods(latents):
    """(n, s, s, L) -> (n s s, 9 L): a row a cell and its eight neighbours; the edge is repeated."""
    side = latents.shape[1]
    padded = np.pad(latents, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3)]
    return rows(np.concatenate(shifted, axis=-1))


if __name__ == "__main__":
    cli.run(main, Config)
