"""Meta-learn a modulated SIREN on a data set, then turn every image into a latent.

One command does the whole job: train, evaluate beside PCA, draw, export functaset.npz, classify
from the latents, and write summary.json. The same command on the same folder resumes.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from groundfloor import checks, cli
from groundfloor.checks import (
    LARGEST,
    Count,
    CountOrZero,
    Finite,
    Interval,
    Name,
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
)
from groundfloor.data.config import DataConfig
from groundfloor.errors import UserError
from groundfloor.runs import Run, duration

NOT_IDENTITY = {  # may differ when a run is resumed
    "data_dir",
    "download",
    "name",
    "out",
    "dispatch",
    "coordinator",
    "processes",
    "process",
}


@dataclass(frozen=True)
class Config(DataConfig):
    """What to train on, the model, the two loops, and where to write."""

    images: Annotated[int, Interval(2, LARGEST)] | None = None
    """Use only this many images of each split; none uses all."""

    width: Count = 64
    """Units in each sine layer."""
    depth: Annotated[int, Interval(2, 1000)] = 4
    """Linear layers in all: first, depth - 2 hidden, last."""
    latent_dim: Count = 32
    """Numbers in each image's latent, or with --grid in each cell of it."""
    w0: Positive = 20.0
    """Frequency of the sine layers, sin(w0 x)."""
    modulation: Literal["shift", "scale_shift"] = "shift"
    """What the latent modulates in each unit."""
    grid: Count | None = None
    """Spatial functa: cells per side of the latent; none: one vector for the whole image."""
    interpolation: Literal["nearest", "bilinear", "blend"] = "nearest"
    """What a point takes from the grid: its own cell's shifts, a mean of those of the four around,
    or a mean of the four's colours (overlapping cells: no seams, four times the work)."""
    map_size: Literal[1, 3] = 1
    """Cells per side that the map from latents to shifts sees: 1, or 3 with the neighbours."""
    coordinates: Literal["global", "local"] = "global"
    """Coordinates in the image, or in the cell that a point lies in."""

    inner_steps: Count = 3
    """Steps that fit one latent."""
    inner_rate: Positive | None = None
    """Constant rate of the inner loop; none learns one rate per latent number (meta-SGD)."""
    rates_of_steps: bool = False
    """Learn other rates in each inner step."""
    rate_start: Positive | None = None
    """Where learned rates start; none: at random in 0.005 ... 0.1, as DeepMind's."""
    update: Literal["rates", "matrix", "gauss_newton"] = "rates"
    """Learned rates of latent numbers, a learned matrix that preconditions their gradient, or
    Gauss-Newton steps by conjugate gradients that the rates precondition."""
    cg_iterations: Count = 1
    """Conjugate gradients in a Gauss-Newton step (other updates have none); 1 is a gradient step of
    the best length."""
    start: Literal["zero", "pca"] = "zero"
    """Where latents start: at zero, or at a linear function of the pixels, PCA at first."""
    rate_range: tuple[Finite, Finite] = (0.0, 1.0)
    """Learned rates are clipped to this range after every outer step (a matrix is not)."""
    first_order: bool = False
    """Ignore second derivatives in the outer gradient (cheaper, worse)."""
    inner_points: Count | None = None
    """Random pixels per inner loss; none uses all."""
    outer_points: Count | None = None
    """Random pixels per outer loss; none uses all."""
    penalty: NotNegative = 0.0
    """Weight of mean(latent^2) in both losses."""
    noise: NotNegative = 0.0
    """Standard deviation of the noise added to latents before the outer loss."""

    steps: Count = 3000
    """Outer steps."""
    batch_size: Count = 64
    """Images per outer step, over all devices."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Of the outer loop; muon: Muon for the layers' weights and Adam for all else."""
    outer_rate: Positive = 1e-3
    """Learning rate of the outer optimizer."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Outer rate over the steps: constant, or cosine decay to zero."""
    warmup: CountOrZero = 100
    """Outer steps of linear warm-up."""
    clip_norm: Positive | None = 1.0
    """Norm that the outer gradient is clipped to; none does not clip."""
    ema: ShareBelowOne = 0.999
    """Decay of the moving average of parameters, which is what gets evaluated and exported."""

    eval_every: Count = 500
    """Outer steps between validations; a checkpoint is written with each."""
    dispatch: Count = 50
    """Outer steps in one call of the device."""
    on_divergence: Literal["stop", "rollback"] = "stop"
    """At a non-finite loss or a collapse: stop, or go back to the last checkpoint at half rate."""
    collapse: Positive = 4.0
    """Fall of the mean training PSNR below its best that counts as a collapse, in dB."""
    classifier_rows: Annotated[int, Interval(2, LARGEST)] = 20_000
    """Training latents for the classifier, at most."""
    seed: Seed = 0
    """Seed of the initial weights, the order of images and all noise."""

    name: Name = ""
    """Appended to the run folder's name."""
    out: Path | None = None
    """Run folder; default runs/meta_train-PRESET[-NAME]."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT|auto")] = None
    """Several processes: address of process 0, or auto to ask the cluster (Slurm, MPI, ...)."""
    processes: Count | None = None
    """How many processes take part (with --coordinator HOST:PORT)."""
    process: CountOrZero | None = None
    """Number of this process, 0 first."""

    def __post_init__(self):
        checks.check(self)

        def require(good, field, why):
            checks.require(good, field, getattr(self, field), why)

        linear = self.start == "zero" or (
            self.interpolation == "nearest" and self.inner_points is None
        )
        require(linear, "start", "needs nearest cells, all of whose pixels are seen")
        learned = self.inner_rate is None or (self.update == "rates" and not self.rates_of_steps)
        require(learned, "inner_rate", "constant rates cannot be learned too")
        exact = not (self.first_order and self.update == "gauss_newton")
        require(exact, "first_order", "a Gauss-Newton step is not a gradient")
        for field in ("map_size", "coordinates", "interpolation"):
            plain = getattr(self, field) == _default(field)
            require(plain or self.grid is not None, field, "needs --grid")
        require(self.rate_range[0] <= self.rate_range[1], "rate_range", "is empty")
        numbered = (self.processes, self.process)
        if self.coordinator in (None, "auto"):
            for field in ("processes", "process"):
                alone = getattr(self, field) is None
                require(alone, field, "needs --coordinator HOST:PORT, of process 0")
        else:
            address = re.fullmatch(r"\S+:\d{1,5}", self.coordinator)
            require(address, "coordinator", "must be HOST:PORT, of process 0, or auto")
            require(None not in numbered, "coordinator", "needs --processes and --process")
            require(self.process < self.processes, "process", f"--processes is {self.processes}")


def _default(field):
    return Config.__dataclass_fields__[field].default


SPATIAL = {  # a grid of cells, each with its neighbours in view
    **{"map_size": 3, "coordinates": "local", "w0": 10.0},
    **{"update": "gauss_newton", "cg_iterations": 3},
    **{"rates_of_steps": True, "rate_start": 1.0, "rate_range": (0.0, 10.0)},
    **{"optimizer": "muon", "outer_rate": 5e-3, "on_divergence": "rollback"},
}
PRESETS = {
    "digits": Config(),
    "mnist": Config(
        dataset="mnist",
        depth=5,
        latent_dim=64,
        batch_size=16,
        steps=8000,
        optimizer="muon",
        outer_rate=1.5e-3,
        eval_every=1000,
        on_divergence="rollback",
        classifier_rows=60_000,
    ),
    "cifar10": Config(
        dataset="cifar10",
        width=256,
        depth=10,
        latent_dim=256,
        w0=30.0,
        batch_size=64,
        steps=200_000,
        outer_rate=3e-5,
        warmup=1000,
        eval_every=2000,
        dispatch=20,
    ),
    "digits-spatial": Config(
        grid=2,
        latent_dim=8,
        **SPATIAL,
    ),
    "mnist-spatial": Config(
        dataset="mnist",
        grid=7,
        latent_dim=4,
        **SPATIAL,
        batch_size=32,
        steps=2000,
        eval_every=250,
        dispatch=10,
        classifier_rows=20_000,
    ),
    "cifar10-spatial-cpu": Config(
        dataset="cifar10",
        width=48,
        depth=4,
        grid=8,
        latent_dim=16,
        **SPATIAL,
        batch_size=32,
        steps=3000,
        eval_every=250,
        dispatch=10,
        classifier_rows=2000,
    ),
    "cifar10-spatial": Config(
        dataset="cifar10",
        width=256,
        depth=7,
        grid=8,
        latent_dim=16,
        **SPATIAL,
        batch_size=128,
        steps=50_000,
        warmup=1000,
        eval_every=1000,
        dispatch=20,
    ),
    # The published setting of DeepMind's functa (their released code, get_config()); theirs has
    # neither clipping nor averaging.
    "celeba64": Config(
        dataset="celeb_a_hq_custom",
        resolution=64,
        width=512,
        depth=15,
        latent_dim=128,
        w0=30.0,
        batch_size=16,
        steps=500_000,
        outer_rate=3e-6,
        schedule="constant",
        warmup=0,
        clip_norm=None,
        ema=0.0,
        eval_every=2000,
        dispatch=20,
    ),
}


def main(config, preset="digits"):
    """The whole job; see the module's docstring."""
    began = time.monotonic()

    from functa_jax.training import devices

    if config.coordinator:
        devices.join_cluster(config.coordinator, config.processes, config.process)
    devices.one_cpu_device_per_core()
    import jax

    from functa_jax.training import loop, report

    first = jax.process_index() == 0

    def prepare():
        data = config.load(images=config.images)
        _check_data(config, data)
        devices.data_mesh(config.batch_size)
        if not first:
            return data, None
        return data, Run.of("meta_train", preset, config, data, not_identity=NOT_IDENTITY)

    def finish():
        if run is None:
            return
        before = time.monotonic()
        report.write(config, data, run, functa, train_seconds=seconds)
        print(report.table(run))
        after = duration(time.monotonic() - before)
        print(
            f"evaluation, export and classifiers took {after}; all together "
            f"{duration(time.monotonic() - began)}"
        )

    data, run = devices.everywhere(prepare)
    complete = devices.everywhere(lambda: first and run.summary() is not None)
    if devices.of_first(np.int32(complete)):
        if first:
            print(
                f"{run.folder} is complete; nothing to do (delete it, or give --name, to run again)"
            )
            print(report.table(run))
        return
    if first:
        _say_what_has_no_effect(config)
    functa, seconds = loop.train(config, data, run)
    devices.everywhere(finish)


def _say_what_has_no_effect(config):
    constant = config.inner_rate is not None
    rules = (
        (config.update != "gauss_newton", ("cg_iterations",), "without --update gauss_newton"),
        (constant or config.update == "matrix", ("rate_range",), "on rates that are not learned"),
        (constant, ("rate_start",), "beside --inner-rate"),
    )
    checks.say_idle(config, Config(), rules)


def _check_data(config, data):
    if len(data.val) == 0 or len(data.test) == 0 or len(data.train) < 2:
        raise UserError(
            f"{data.name} has {len(data.train)} train, {len(data.val)} validation and "
            f"{len(data.test)} test images: too few to learn about images from"
        )
    height, width, channels = data.train.images.shape[1:]
    if min(height, width) < 1 or channels not in (1, 3, 4):
        raise UserError(
            f"{data.name} images are {height}x{width} with {channels} channels: only grey, RGB "
            "and RGBA images can be learned"
        )
    if config.grid and (height % config.grid or width % config.grid):
        raise UserError(
            f"--grid {config.grid} does not divide {data.name} images of {height}x{width}"
        )
    by_cells = config.grid is not None and config.interpolation == "nearest"
    points = height * width // (config.grid**2 if by_cells else 1)
    for field in ("inner_points", "outer_points"):
        kind = "cells" if by_cells else "images"
        what = f"{data.name} {kind} have only {points} pixels"
        checks.refuse_beyond(field, getattr(config, field), points, what)
    if config.start == "pca":
        most = min(points * channels, len(data.train) * (config.grid or 1) ** 2)
        what = f"--start pca can give {data.name} {most} at most"
        checks.refuse_beyond("latent_dim", config.latent_dim, most, what)
    what = f"{data.name} has only {len(data.train)} train images"
    checks.refuse_beyond("batch_size", config.batch_size, len(data.train), what)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
