"""Fit SIRENs to single images, many at once, and set them beside shared weights with latents.

Widths x depths x image sizes: PSNR against parameters and steps, gradients and Laplacians,
super-resolution, zooms. Then single-image networks, a functa and PCA on the same test images, at
equal numbers per image and at equal time. A stopped command goes on, cell by cell; more widths,
depths and sizes join what is there.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from groundfloor import checks, cli, tables
from groundfloor.checks import AtLeastTwo, Count, CountOrZero, Interval, Name, Positive, Seed
from groundfloor.data.config import DataConfig
from groundfloor.errors import UserError
from groundfloor.runs import Run, counted, duration, read_json, run_folder, write_json

IDENTITY = (
    "dataset",
    "images",
    "steps",
    "rate",
    "w0",
    "start_scale",
    "points",
    "seeds",
    "compare",
    "compare_images",
    "compare_steps",
)
NUMBERS = 32  # per image, in a comparison without a functa


@dataclass(frozen=True)
class Config(DataConfig):
    """What to fit, with which networks, and what to set beside them."""

    dataset: str = "photos"
    """Data set: photos, digits, mnist, cifar10, any prepared TFDS image set in --data-dir, or the
    path of a folder of images or of a .npy or .npz file."""
    images: tuple[CountOrZero, ...] = (0, 1)
    """Which images: rows of its train split."""
    sizes: tuple[AtLeastTwo, ...] = (32, 64)
    """Shorter sides in pixels that images are reduced to, by area means."""
    widths: tuple[Count, ...] = (16, 32, 64)
    """Units in each sine layer."""
    depths: tuple[Annotated[int, Interval(2, 1000)], ...] = (3, 4, 5)
    """Linear layers in all: first, depth - 2 hidden, last."""

    steps: Count = 500
    """Steps of Adam."""
    rate: Positive = 1e-3
    """Learning rate, falling to zero along a cosine."""
    w0: Positive = 30.0
    """Frequency of the sine layers, sin(w0 x); coordinates are in [0, 1]."""
    start_scale: Positive = 1.0
    """What the initial weights of all layers but the last are multiplied by; not in the
    comparison."""
    points: Count | None = None
    """Random pixels per step; none uses all."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds of initial weights and of drawn pixels: one network per image and seed."""

    compare: str | None = "digits"
    """Data set on which single-image networks, a functa and PCA are compared; none skips it."""
    run: Path | None = None
    """The functa: a run folder of functa_jax.meta_train; default runs/meta_train-COMPARE."""
    compare_images: Count = 64
    """Test images in the comparison, and as many validation images for its choices."""
    compare_steps: Count = 1000
    """Steps of Adam in the comparison."""

    name: Name = ""
    """Appended to the run folder's name."""
    out: Path | None = None
    """Run folder; default runs/fit_images-PRESET[-NAME]."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("images", "sizes", "widths", "depths", "seeds"):
            values = getattr(self, name)
            different = values and len(set(values)) == len(values)
            checks.require(different, name, values, "give different numbers, one at least")
        needless = self.compare is None and self.run is not None
        checks.require(not needless, "run", self.run, "needs --compare, the data set of that run")


PRESETS = {
    "photos": Config(),
    "mnist": Config(
        dataset="mnist", images=tuple(range(8)), sizes=(14, 28), steps=1000, compare="mnist"
    ),
    "cifar10": Config(
        dataset="cifar10", images=tuple(range(8)), sizes=(16, 32), steps=1000, compare="cifar10"
    ),
    # Whole photographs, for a GPU.
    "photos-full": Config(
        sizes=(107, 214, 427),
        widths=(64, 128, 256),
        depths=(4, 5, 6),
        steps=10_000,
        rate=3e-4,
        w0=60.0,
        points=2**16,
        compare=None,
    ),
}


def main(config, preset="photos"):
    """The whole job; returns the run's summary."""
    began = time.monotonic()
    full, source = load_images(config)

    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    from functa_jax.single import fit_figures, fit_grid

    functa, data = load_beside(config)
    folder = run_folder("fit_images", preset, config)
    settings = {key: asdict(config)[key] for key in IDENTITY}
    settings["compare_fingerprint"] = data.fingerprint if data else None
    earlier = {"start_scale": 1.0}  # runs from before there was a choice
    run = Run(folder, settings, data_fingerprint=source, defaults=earlier)
    made = {"cells": [str(cell) for cell in fit_grid.cells_of(config)]}
    made["functa"] = functa.hash if functa else None
    before = run.summary()
    if before and all(before.get(key) == made[key] for key in made):
        print(f"{folder} is complete; nothing to do (delete it, or give --name, to run again)")
        print(table(before))
        return before

    images = fit_grid.reduced(full, config.sizes)
    announce(config, images, functa, data, run)
    fits = fit_grid.fit_all(config, images, run)
    rows = fit_grid.rows_of(config, fits, images)
    tables.write(run.path("results"), rows, "csv")
    write_json(run.path("results.json"), rows)
    enlarged = fit_figures.grid(run, config, full, images, fits)
    beside = compare(config, functa, data, run) if data else {}
    run.write_summary(
        **made,
        grid=fit_grid.means_of(rows),
        enlarged=enlarged,
        comparison=beside,
        psnr_is="mean of per-image PSNR, dB",
        device=fit_grid.device(),
    )
    print(table(run.summary()))
    print(
        f"\n{run.folder}: results.csv, comparison.csv, summary.json, cells/, figures/; "
        f"{duration(time.monotonic() - began)} all together"
    )
    return run.summary()


def load_images(config):
    """(uint8 images (n, h, w, C) of the grid, fingerprint of their data set).

    UserError if an image or a size does not exist.
    """
    data = config.load()
    if max(config.images) >= len(data.train):
        raise UserError(
            f"--images {max(config.images)}: {data.name} has "
            f"{counted(len(data.train), 'train image')}, counted from 0"
        )
    images = data.train.images[list(config.images)]
    shorter = min(images.shape[1:3])
    if max(config.sizes) > shorter:
        raise UserError(
            f"--sizes {max(config.sizes)}: {data.name} images have only {shorter} pixels"
        )
    return images, data.fingerprint


def load_beside(config):
    """(functa or None, data set or None) of the comparison."""
    from functa_jax.functa import load

    if config.compare is None:
        return None, None
    folder = _beside(config)
    functa = load(folder) if config.run or (folder / "functa.npz").exists() else None
    if functa and not functa.of_images:
        raise UserError(f"{folder} is a functa of {functa.config.modality}, not of images")
    beside = replace(config, dataset=config.compare, resolution=None)
    data = beside.load(size=functa.resolution if functa else None)
    if len(data.val) == 0 or len(data.test) == 0:
        raise UserError(f"--compare {data.name} has no validation or test images")
    if functa is None:
        return None, data
    height, width, channels = data.train.images.shape[1:]
    if (height, width) != functa.resolution:
        raise UserError(
            f"{data.name} has images of {height}x{width}, the functa in {folder} is of "
            f"{functa.resolution[0]}x{functa.resolution[1]}"
        )
    known = functa.metadata.get("data", data.name), functa.config.channels
    if known != (data.name, channels):
        raise UserError(f"{folder} is a functa of {known[0]}; give --compare {known[0]}")
    return functa, data


def _beside(config):
    """The run that is compared."""
    return config.run or Path("runs") / f"meta_train-{config.compare}"


def announce(config, images, functa, data, run):
    """Print what flags do not do here, and roughly how long all parts take."""
    from functa_jax.single import comparison, fit_grid

    pixels = min(batch.shape[1] * batch.shape[2] for batch in images.values())
    if config.points and config.points >= pixels:
        print(f"note: --points {config.points} are all pixels of the smallest images ({pixels})")
    if data and config.compare_images > min(len(data.val), len(data.test)):
        print(f"note: {data.name} has fewer than --compare-images {config.compare_images}")
    grid, beside = fit_grid.seconds_of(config, images, run), 0
    if data and not _compared(run, functa):
        beside = comparison.seconds_of(
            data.test.images.shape[1:],
            functa.config.numbers if functa else NUMBERS,
            count=config.compare_images,
            steps=config.compare_steps,
            w0=config.w0,
        )
    figures = fit_grid.FIGURE_SECONDS
    parts = f"networks {duration(grid)}, comparison {duration(beside)}, figures {figures} s"
    print(f"estimated time: {duration(grid + beside + figures)} ({parts})", flush=True)


def _compared(run, functa):
    """Whether the comparison with this functa is there."""
    path = run.path("comparison.json")
    kept = read_json(path) if path.exists() else None
    return isinstance(kept, dict) and kept.get("functa") == (functa.hash if functa else None)


def compare(config, functa, data, run):
    """The comparison, or what a run before this one found; its figures and comparison.csv."""
    from functa_jax.single import comparison, comparison_figures

    path, beside = run.path("comparison.json"), functa.hash if functa else None
    if not _compared(run, functa):
        print(f"comparing on {data.name}", flush=True)
        folder = _beside(config)
        if functa and folder.is_dir() and not (folder / "summary.json").exists():
            print(f"note: {folder} is not finished, its functa is that of now", flush=True)
        result = comparison.compare(
            functa,
            data,
            numbers=NUMBERS,
            count=config.compare_images,
            steps=config.compare_steps,
            w0=config.w0,
            seed=config.seeds[0],
            folder=run.folder,
        )
        comparison_figures.comparison(run.path("figures/comparison.png"), result, data)
        comparison_figures.galleries(run.path("figures/comparison_images.png"), result.pictures)
        tables.write(run.path("comparison"), result.rows, "csv")
        write_json(
            path,
            {
                "functa": beside,
                "data": data.name,
                "images": result.images,
                "image_numbers": data.test.images[0].size,
                "sharing": len(data.train) + len(data.val) + len(data.test),
                "rows": result.rows,
                "enough": comparison.reached(result.rows),
            },
        )
    if functa is None:
        print(
            f"no functa beside these: make one of {data.name} with functa_jax.meta_train "
            "(for digits, make demo), then repeat this command with --run"
        )
    return read_json(path)


def table(summary):
    """The two tables of a finished run."""
    lines = ["", "size  width  depth  parameters     bytes   PSNR (dB)  seconds per image"]
    for row in summary["grid"]:
        spread = "" if row["psnr_std"] is None else f" ± {row['psnr_std']:.2f}"
        lines.append(
            f"{row['size']:4d}  {row['width']:5d}  {row['depth']:5d}  {row['parameters']:10,d}  "
            f"{row['bytes']:8,d}  {row['psnr']:6.2f}{spread:8s} {row['seconds_per_image']:10.3f}"
        )
    beside = summary["comparison"]
    if not beside:
        return "\n".join(lines)
    lines += [
        "",
        f"{beside['data']}, {beside['images']} test images",
        "                         numbers   bytes    PSNR (dB)  ms per image  shared bytes",
    ]
    for row in beside["rows"]:
        steps = f", {row['steps']} step{'s' * (row['steps'] != 1)}" if "steps" in row else ""
        shared = f"{row['shared_bytes']:,d}" if "shared_bytes" in row else "-"
        name = f"{row['method']}{steps}"
        mark = {"equal numbers": "  = numbers", "equal time": "  = time"}.get(row["compared"], "")
        lines.append(
            f"{name:22s} {row['numbers']:9,d} {row['bytes']:7,d} {row['psnr']:12.2f} "
            f"{1e3 * row['seconds_per_image']:13.3f} {shared:>13s}{mark}"
        )
    if "functa" in {row["method"] for row in beside["rows"]}:
        lines.append(_enough(beside["enough"], beside.get("image_numbers")))
    lines.append(f"shared bytes serve all {beside['sharing']:,} images of {beside['data']}")
    return "\n".join(lines)


def _enough(numbers, image_numbers):
    """How many numbers a single-image network needs, as a sentence; `image_numbers` may be None."""
    if numbers is None:
        return "no single-image network of these is as good as the functa"
    if image_numbers and numbers >= image_numbers:
        return (
            f"no single-image network of fewer numbers than the image itself ({image_numbers}) is "
            f"as good as the functa; the first that is has {numbers}"
        )
    return f"a single-image network needs {numbers} numbers to be as good as the functa"


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
