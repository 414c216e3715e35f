"""Meta-learn a modulated SIREN on a data set, then turn every image, or function, into a latent.

One command does the whole job: train, evaluate beside PCA, draw, export functaset.npz, classify
from the latents, and write summary.json. The same command on the same folder resumes; with more
--steps a finished run goes on. --init starts from the weights of another run.
"""

import time
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from functa_jax.modalities.modality import MODALITIES
from functa_jax.model.config import GridConfig, NetworkConfig, RayConfig
from functa_jax.training.config import ClusterConfig, OuterConfig, RunConfig
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo
from groundfloor.data.config import SOURCE, DataConfig
from groundfloor.data.datasets import Dataset
from groundfloor.errors import UserError
from groundfloor.runs import counted, duration

NOT_IDENTITY = {  # may differ when a run is resumed
    *SOURCE,
    "name",
    "out",
    "dispatch",
    "resident",
    "workers",
    "coordinator",
    "processes",
    "process",
}


LEAST_VIEWS = 3  # of a scene
REFINED_PCA_ONLY = {  # one picture, of all pixels, whose latents start at PCA's
    "update": "gauss_newton",
    "modulation": "shift",
    "grid": None,
    "inner_points": None,
    "outer_points": None,
    "fit_points": None,
}


@dataclass(frozen=True)
class Config(
    ClusterConfig, RunConfig, OuterConfig, RayConfig, GridConfig, NetworkConfig, DataConfig
):
    """What to train on, the model, the two loops, and where to write."""

    dataset: str = "digits"
    """Data set: digits, mnist, cifar10, any prepared TFDS image set in --data-dir; voxels, stacks,
    sphere, sound, video, scenes; or a path: a folder of images, of volumes (.npy, .nii), of .wav
    files or of scenes as SRN cars has them, a .npy or .npz file of images, a .npz file with coords
    and values of any functions."""
    images: AtLeastTwo | None = None
    """Use only this many images (or functions) of each split; none uses all."""

    def __post_init__(self):
        super().__post_init__()
        named = self.coordinator is None or self.precision != "auto"
        why = "several processes take float32 or bfloat16"
        checks.require(named, "precision", self.precision, why)
        if self.decoder != "refined_pca":
            why = "latents start at zero, where neither their map nor their rates have a gradient"
            checks.require(self.training_steps != 0, "training_steps", 0, why)
            return
        for name, only in REFINED_PCA_ONLY.items():
            value = getattr(self, name)
            why = f"--decoder refined_pca has {'none' if only is None else only} only"
            checks.require(value == only, name, value, why)


SPATIAL = {  # a grid of cells, each with its neighbours in view
    "map_size": 3,
    "coordinates": "local",
    "w0": 10.0,
    "update": "gauss_newton",
    "cg_iterations": 3,
    "rates_of_steps": True,
    "rate_start": 1.0,
    "rate_range": (0.0, 10.0),
    "optimizer": "muon",
    "outer_rate": 5e-3,
    "on_divergence": "rollback",
}
REFINED_PCA = {  # one vector, a decoder that starts as PCA, trained at PCA's latents
    "decoder": "refined_pca",
    "w0": 10.0,
    "update": "gauss_newton",
    "cg_iterations": 2,
    "inner_steps": 2,
    "training_steps": 0,
    "rate_start": 1.0,
    "optimizer": "muon",
    "outer_rate": 2e-3,
    "on_divergence": "rollback",
}
FUNCTIONS = {
    "optimizer": "muon",
    "outer_rate": 5e-3,
    "eval_every": 500,
    "dispatch": 10,
    "on_divergence": "rollback",
    "classifier_rows": 2000,
}
TEN_STEPS = {"inner_steps": 10, "training_steps": 3}  # more than training pays for fit better still
PRESETS = {
    "digits": Config(w0=20.0),
    "mnist": Config(
        dataset="mnist",
        depth=5,
        latent_dim=64,
        w0=20.0,
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
        batch_size=64,
        steps=200_000,
        outer_rate=3e-5,
        warmup=1000,
        eval_every=2000,
        dispatch=20,
    ),
    "digits-spatial": Config(grid=2, latent_dim=8, **SPATIAL),
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
    "cifar10-vector-cpu": Config(
        dataset="cifar10",
        width=32,
        depth=4,
        latent_dim=256,
        **REFINED_PCA,
        batch_size=8,
        steps=6000,
        eval_every=1000,
        dispatch=10,
        classifier_rows=2000,
    ),
    "cifar10-spatial-cpu": Config(
        dataset="cifar10",
        width=48,
        depth=4,
        grid=8,
        latent_dim=16,
        **SPATIAL,
        batch_size=32,
        steps=5000,
        eval_every=500,
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
    # Functions other than images.
    "voxels": Config(
        dataset="voxels",
        latent_dim=128,
        w0=20.0,
        **TEN_STEPS,
        inner_points=1024,
        outer_points=1024,
        fit_points=4096,
        batch_size=8,
        steps=2500,
        **FUNCTIONS | {"outer_rate": 2e-3},
    ),
    "sphere": Config(
        dataset="sphere",
        latent_dim=64,
        w0=10.0,
        **TEN_STEPS,
        inner_points=512,
        outer_points=512,
        fit_points=1024,
        batch_size=16,
        steps=3000,
        **FUNCTIONS,
    ),
    "sound": Config(  # which learns nothing at Muon's rates
        dataset="sound",
        latent_dim=32,
        w0=15.0,
        batch_size=16,
        steps=3000,
        **FUNCTIONS | {"optimizer": "adam", "outer_rate": 1e-3},
    ),
    "video": Config(
        dataset="video",
        latent_dim=128,
        w0=20.0,
        **TEN_STEPS,
        inner_points=1024,
        outer_points=1024,
        fit_points=2048,
        batch_size=8,
        steps=2000,
        **FUNCTIONS | {"outer_rate": 2e-3},
    ),
    "scenes": Config(
        dataset="scenes",
        latent_dim=128,
        w0=20.0,
        ball=0.5,
        ray_points=12,
        density_gain=10.0,
        max_density=30.0,
        update="gauss_newton",
        cg_iterations=3,
        rates_of_steps=True,
        training_steps=1,
        rate_start=1.0,
        rate_range=(0.0, 10.0),
        inner_points=512,
        outer_points=256,
        fit_points=1024,
        batch_size=8,
        steps=450,
        **FUNCTIONS | {"outer_rate": 2e-3, "eval_every": 100},
    ),
    # The published setting of DeepMind's functa (their released code, get_config()); theirs has
    # neither clipping nor averaging.
    "celeba64": Config(
        dataset="celeb_a_hq_custom",
        resolution=64,
        width=512,
        depth=15,
        latent_dim=128,
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
    """The whole job; returns the run's summary (None in processes other than the first)."""
    began = time.monotonic()

    from functa_jax.training import devices

    if config.coordinator:
        devices.join_cluster(config.coordinator, config.processes, config.process)
    devices.one_cpu_device_per_core()
    import jax

    from functa_jax.modalities import loading
    from functa_jax.training import loop, report, starting

    first = jax.process_index() == 0

    def prepare():
        load = partial(loading.load, config, config.images)
        data = load(config.resident)
        if isinstance(data, Dataset):
            data = loading.recognised(data, starting.known_images(preset, config), load)
        _check_data(config, data)
        devices.data_mesh(config.batch_size)
        model = loop.model_config(config, data)
        weights = starting.weights_of(config.init, model) if config.init else None
        run = starting.open_run(preset, config, data, NOT_IDENTITY) if first else None
        return data, weights, run

    def finish():
        if run is None:
            return None
        before = time.monotonic()
        report.write(config, data, run, functa, train_seconds=seconds)
        print(report.table(run))
        after = duration(time.monotonic() - before)
        print(
            f"evaluation, export and classifiers took {after}; all together "
            f"{duration(time.monotonic() - began)}"
        )
        return run.summary()

    data, weights, run = devices.everywhere(prepare)
    summary = devices.everywhere(lambda: run.summary() if first else None)
    if devices.of_first(np.int32(summary is not None)):
        if first:
            print(
                f"{run.folder} is complete; nothing to do (delete it, or give --name, to run again)"
            )
            print(report.table(run))
        return summary
    if first:
        _say_what_has_no_effect(config, data)
    functa, seconds = loop.train(config, data, run, weights)
    return devices.everywhere(finish)


def _say_what_has_no_effect(config, data):
    scenes = getattr(data, "modality", "images") == "scenes"
    rays = tuple(field.name for field in fields(RayConfig))
    ends, streams = ("near", "far"), ("resident", "workers")
    images = isinstance(data, Dataset)
    constant = config.inner_rate is not None
    rules = (
        (config.update != "gauss_newton", ("cg_iterations",), "without --update gauss_newton"),
        (constant, ("rate_range",), "on rates that are not learned"),
        (constant, ("rate_start",), "beside --inner-rate"),
        (config.training_steps == 0, ("rates_of_steps",), "with --training-steps 0"),
        (not scenes, rays, f"on {data.name}, which are no scenes"),
        (not images, streams, f"on {data.name}: functions other than images stay in memory"),
        (scenes and config.ball is not None, ends, "beside --ball"),
    )
    checks.say_idle(config, Config(), rules)


def _check_data(config, data):
    noun = data.noun
    if len(data.val) == 0 or len(data.test) == 0 or len(data.train) < 2:
        raise UserError(
            f"{data.name} has {len(data.train)} train, {len(data.val)} validation and "
            f"{len(data.test)} test {noun}s: too few to learn about {noun}s from"
        )
    if isinstance(data, Dataset):
        _check_images(config, data)
    else:
        _check_functions(config, data)
    if config.class_loss:
        data.require(classes=2)
    what = f"{data.name} has only {counted(len(data.train), f'train {noun}')}"
    checks.refuse_beyond("batch_size", config.batch_size, len(data.train), what)


def _check_images(config, data):
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
    points = height * width // (config.cells if config.by_cells else 1)
    for field in ("inner_points", "outer_points", "fit_points"):
        kind = "cells" if config.by_cells else "images"
        what = f"{data.name} {kind} have only {points} pixels"
        checks.refuse_beyond(field, getattr(config, field), points, what)
    if config.decoder == "refined_pca":
        from functa_jax.evaluation.reconstruction import MOST_NUMBERS

        numbers = height * width * channels
        most = min(len(data.train), numbers) - 1
        what = f"PCA of {data.name} has no more than {most} components of use"
        checks.refuse_beyond("latent_dim", config.latent_dim, most, what)
        if not isinstance(data.train.images, np.ndarray) and numbers > MOST_NUMBERS:
            raise UserError(
                f"--decoder refined_pca: PCA of {numbers:,} numbers an image needs all images in "
                "memory; give --resident yes, or a lower --resolution"
            )


def _check_functions(config, data):
    kinds = {
        "grid": (config.grid, "cells are of images"),
        "decoder": (config.decoder == "refined_pca", "its pictures are images"),
        "update": (
            config.update == "gauss_newton" and MODALITIES[data.modality].loss != "squared",
            f"a Gauss-Newton step is of squared errors, the loss of {data.modality} is another",
        ),
    }
    for name, (given, why) in kinds.items():
        if given:
            raise UserError(f"--{name} {getattr(config, name)}: {why}; not for {data.name}")
    if data.modality == "scenes" and data.lattice[0] < LEAST_VIEWS:
        raise UserError(
            f"{data.name} has {counted(data.lattice[0], 'view')} of an object; at least "
            f"{LEAST_VIEWS} are needed, so that one can be novel"
        )
    if data.modality == "scenes" and config.ball is not None:
        _check_ball(config, data)
    points = data.train.values.shape[1]
    for field in ("inner_points", "outer_points", "fit_points"):
        count = getattr(config, field)
        if count is not None and data.train.mask is not None:
            raise UserError(
                f"--{field.replace('_', '-')} {count}: the same points are drawn for all, and "
                f"functions of {data.name} have each a mask of its own; give none"
            )
        what = f"functions of {data.name} are known at only {points} points"
        checks.refuse_beyond(field, count, points, what)


def _check_ball(config, data):
    from functa_jax.model import radiance

    given = f"--ball {config.ball:g}"
    nearest = min(
        float(np.linalg.norm(split.coords[..., :3], axis=-1).min(initial=np.inf))
        for split in (data.train, data.val, data.test)
    )
    if nearest <= config.ball:
        raise UserError(f"{given}: a camera of {data.name} is inside, {nearest:g} from the origin")
    if not radiance.meets_ball(data.train.coords, config.ball).any():
        raise UserError(f"{given}: no ray of {data.name} meets it")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
