"""The cells of functa_jax.fit_images: networks of one shape on images of one size, each kept in a
file, so that a stopped grid goes on and a finished one may be widened."""

import itertools
from typing import NamedTuple

import numpy as np

from functa_jax.evaluation.reconstruction import mean_psnr
from functa_jax.images import resize, signals
from functa_jax.single import sirens
from functa_jax.training import devices
from functa_jax.training.loop import matmul_rate
from groundfloor import npz
from groundfloor.runs import Progress, Stopping, counted

COMPILE_SECONDS = 4  # of one cell, about
FIGURE_SECONDS = 30  # all figures, about


class Cell(NamedTuple):
    """Networks of one shape on images of one size (of the shorter side, in pixels)."""

    size: int
    width: int
    depth: int

    def __str__(self):
        return f"size{self.size}-width{self.width}-depth{self.depth}"

    def shape(self, config, channels=3):
        """Its sirens.Shape."""
        return sirens.Shape(self.width, self.depth, channels, config.w0, config.start_scale)


def cells_of(config):
    """Every cell of a fit_images.Config."""
    return [
        Cell(*numbers) for numbers in itertools.product(config.sizes, config.widths, config.depths)
    ]


def reduced(images, sizes):
    """{size: images (n, h, w, C) float32 in [0, 1]} of images uint8 (n, h, w, C)."""
    floats = signals.to_float(images)
    return {size: resize.reduce(floats, *resize.shorter_side(images, size)) for size in set(sizes)}


def fit_all(config, images, run):
    """Fit what is not yet there; {cell: sirens.Fit} with one network per image and seed.

    images: of `reduced`. Networks are image-major: image 0 with every seed, then image 1.
    """
    cells = cells_of(config)
    missing = [cell for cell in cells if not _path(run, cell).exists()]
    channels = images[config.sizes[0]].shape[-1]
    networks = len(config.images) * len(config.seeds)
    print(
        f"{len(missing)} of {counted(len(cells), 'cell')} to fit, "
        f"{counted(networks, 'network')} each, {config.steps:,} steps; writing to {run.folder}",
        flush=True,
    )
    if len(missing) < len(cells):
        Stopping.kept = f"{counted(len(cells) - len(missing), 'finished cell')} in {run.folder}"
    with Progress(len(missing) * config.steps, "step") as progress:
        for cell in missing:

            def advanced(steps, errors, cell=cell):
                text = f"{mean_psnr(errors):.2f} dB"
                progress.advance(steps, cell=str(cell), psnr=text)

            fit = sirens.fit(
                cell.shape(config, channels),
                np.repeat(images[cell.size], len(config.seeds), axis=0),
                np.tile(config.seeds, len(config.images)),
                steps=config.steps,
                rates=config.rate,
                points=config.points,
                records=sirens.marks(config.steps),
                advanced=advanced,
            )
            npz.write(_path(run, cell), fit._asdict())
            Stopping.kept = f"cell {cell} in {run.folder}"
    return {cell: _load(_path(run, cell)) for cell in cells}


def seconds_of(config, images, run):
    """How long the cells that are missing take, about."""
    missing = [cell for cell in cells_of(config) if not _path(run, cell).exists()]
    mflop = sum(_mflop(config, cell, images[cell.size]) for cell in missing) * config.steps
    overhead = COMPILE_SECONDS + config.steps * sirens.STEP_SECONDS
    return len(missing) * overhead + mflop / (0.4e-6 * matmul_rate()) if missing else 0


def _path(run, cell):
    return run.path("cells", f"{cell}.npz")


def _load(path):
    with npz.reading(path, "a fitted cell") as arrays:
        return sirens.Fit(*(arrays[name] for name in sirens.Fit._fields))


def _mflop(config, cell, images):
    """Of one step of all networks, at least 1."""
    n, height, width, channels = images.shape
    points = min(config.points or height * width, height * width)
    flops = cell.shape(config, channels).step_flops(points) * n * len(config.seeds)
    return max(1, round(flops / 1e6))


def rows_of(config, fits, images):
    """A row of results per network, in the order of cells, images and seeds."""
    rows = []
    for cell, fit in fits.items():
        _, height, width, channels = images[cell.size].shape
        parameters = cell.shape(config, channels).parameters
        networks = itertools.product(config.images, config.seeds)
        for (image, seed), error in zip(networks, fit.errors[-1], strict=True):
            rows.append(
                {
                    "image": image,
                    "height": height,
                    "width_pixels": width,
                    "seed": seed,
                    **cell._asdict(),
                    "parameters": parameters,
                    "bytes": 4 * parameters,
                    "steps": int(fit.steps[-1]),
                    "psnr": float(mean_psnr([error])),
                    "seconds_per_image": float(fit.seconds) / len(fit.weights),
                }
            )
    return rows


def means_of(rows):
    """A row per cell: means over images and seeds, and the standard deviation over seeds of the
    mean over images (None for one seed)."""
    means = []
    for cell, group in itertools.groupby(rows, key=lambda r: (r["size"], r["width"], r["depth"])):
        group = list(group)
        by_seed = {row["seed"]: [] for row in group}
        for row in group:
            by_seed[row["seed"]].append(row["psnr"])
        of_seeds = [np.mean(values) for values in by_seed.values()]
        means.append(
            {
                **dict(zip(Cell._fields, cell, strict=True)),
                "parameters": group[0]["parameters"],
                "bytes": group[0]["bytes"],
                "psnr": float(np.mean(of_seeds)),
                "psnr_std": float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else None,
                "seconds_per_image": group[0]["seconds_per_image"],
            }
        )
    return means


def device():
    """What the networks were fitted on, in words."""
    used = devices.jax.devices()
    return f"{len(used)} x {used[0].device_kind}"
