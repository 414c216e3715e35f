"""Meta-learn a modulated SIREN on a data set, then turn every image into a latent.

One command does the whole job: train, evaluate beside PCA, draw, export functaset.npz, classify
from the latents, and write summary.json. The same command on the same folder resumes.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common import cli, datasets
from common.errors import UserError
from common.runs import Run, duration

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


def main(config, preset="digits"):
    """The whole job; see the module's docstring."""
    began = time.monotonic()
    data = datasets.load(
        config.data,
        config.data_dir,
        download=config.download,
        resolution=config.resolution,
        images=config.images,
    )
    _check_data(config, data)

    from functa_jax import devices

    devices.one_cpu_device_per_core()
    if config.coordinator:
        devices.join_cluster(config.coordinator, config.processes, config.process)
    import jax

    from functa_jax import report, training

    folder = config.out or Path("runs") / "-".join(
        part for part in ("meta_train", preset, config.name) if part
    )
    settings = {k: v for k, v in asdict(config).items() if k not in NOT_IDENTITY}
    settings["data_fingerprint"] = data.fingerprint
    run = Run(folder, settings) if jax.process_index() == 0 else None
    if run is not None and run.summary() is not None:
        print(f"{folder} is complete; nothing to do (delete it, or give --name, to run again)")
        print(report.table(run))
        return
    functa, seconds = training.train(config, data, run)
    if run is not None:
        before = time.monotonic()
        report.write(config, data, run, functa, train_seconds=seconds)
        print(report.table(run))
        after = duration(time.monotonic() - before)
        print(
            f"evaluation, export and classifiers took {after}; all together "
            f"{duration(time.monotonic() - began)}"
        )
    devices.wait_for_all()


def _check_data(config, data):
    if len(data.val) == 0 or len(data.test) == 0:
        raise UserError(f"{data.name} has no validation or test images; fit_images is for photos")
    height, width, _ = data.train.images.shape[1:]
    for field in ("inner_points", "outer_points"):
        if (getattr(config, field) or 0) > height * width:
            raise UserError(
                f"--{field.replace('_', '-')} {getattr(config, field)}: {data.name} images have "
                f"only {height * width} pixels"
            )
    if config.batch_size > len(data.train):
        raise UserError(
            f"--batch-size {config.batch_size}: {data.name} has only {len(data.train)} train images"
        )


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
