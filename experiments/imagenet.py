"""What would ImageNet at 256 x 256 take, on 8 hosts of 8 devices like those of this machine?

    python -m experiments.imagenet                     6 minutes on a CPU core
    python -m experiments.imagenet --device-batch 4    on a GPU; not yet run

It trains nothing: it compiles and times the outer step and the fit of the network of the paper
(Bauer et al. 2023: 32 x 32 cells of 64 numbers, width 256) on random images, as many a device as
--device-batch says, and multiplies. Losses of training see 16 of the 64 pixels of each cell: with
all of them a step on one image needs more than 24 GB. Every device does the same work on its own
images, so that 64 take as long as one, if links and disks keep up: the bytes of gradients and
images are in the table.
Prints the command lines; `imagenet_256` in them is a TFDS set of one's own, prepared at 256 x 256
(array_record), so that it can be streamed.
Result: imagenet.json, a row a kind of device that it was called on: a new file begins with the rows
of experiments/results.

Expected: 38 s and 6.3 GB a step of one image on a core with AVX2, so 4,200 hours on 64 of them.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments import runner
from functa_jax import meta_train
from groundfloor import checks, cli
from groundfloor.checks import Count
from groundfloor.machine import machine
from groundfloor.runs import read_json

HOSTS, DEVICES_A_HOST = 8, 8
TRAIN_IMAGES, SIDE = 1_281_167, 256
GRID, LATENT_DIM, DEPTH = 32, 64, 8
POINTS = 16  # of a cell, in the losses of training
NETWORK = f"--grid {GRID} --latent-dim {LATENT_DIM} --depth {DEPTH}"
LOSSES = f"--inner-points {POINTS} --outer-points {POINTS}"
FLAGS = f"--dataset imagenet_256 {NETWORK} {LOSSES} --resident no --workers 16"
TRAIN = f"python -m functa_jax.meta_train cifar10-spatial {FLAGS} --batch-size {{batch}}"
EXPORT = "python -m functa_jax.export --run runs/meta_train-cifar10-spatial --dtype float16"
CLUSTER = "--coordinator host0:1234 --processes 8 --process 0   (to 7, one a host)"


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """What is measured, and what it is multiplied with."""

    device_batch: Count = 1
    """Images of an outer step on each device."""
    epochs: Count = 20
    """Times that training sees every image."""
    rounds: Count = 2
    """Steps that are timed."""
    side: Count = SIDE
    """Pixels a side of an image; a multiple of 32."""
    width: Count = 256
    """Units of a layer."""
    results: Path = runner.RESULTS
    """Folder for the table."""

    def __post_init__(self):
        super().__post_init__()
        checks.require(self.side % GRID == 0, "side", self.side, f"is no multiple of {GRID}")


def main(config):
    """Measure, multiply, print; returns what the JSON holds."""
    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    row = {**measured(config), "machine": machine(), "network": network(config)}
    row |= multiplied(row, config)
    path = config.results / "imagenet.json"
    known = path if path.exists() else runner.RESULTS / path.name  # so that it may replace that one
    rows = read_json(known)["rows"] if known.exists() else []
    rows = [other for other in rows if of(other) != of(row)] + [row]
    command = TRAIN.format(batch=row["batch"])
    print(f"{command}\n    {CLUSTER}\n{EXPORT}\n    {CLUSTER}")
    for key, value in row.items():
        print(f"{key:32s} {value:,.4g}" if isinstance(value, float) else f"{key:32s} {value}")
    return runner.write(path, "imagenet", {"commands": [command, EXPORT], "rows": rows})


def network(config):
    """Its size in words."""
    return f"{config.side}x{config.side}, width {config.width}"


def of(row):
    """What a row is of: device and network; rows of before have that of the paper."""
    return row["device"], row.get("network", network(Config()))


def measured(config):
    """Seconds and bytes of an outer step, and of a fit, of device_batch images on one device."""
    import jax
    from jax.sharding import Mesh, PartitionSpec

    from functa_jax.functa import Functa
    from functa_jax.model import siren
    from functa_jax.training import devices, loop, outer_loop

    batch, seen = config.device_batch, min(POINTS, (config.side // GRID) ** 2)
    preset = meta_train.PRESETS["cifar10-spatial"]
    settings = replace(
        preset,
        grid=GRID,
        latent_dim=LATENT_DIM,
        depth=DEPTH,
        width=config.width,
        inner_points=seen,
        outer_points=seen,
        batch_size=batch,
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, config.side, config.side, 3)).astype(np.uint8)
    model = loop.model_config(settings, images)
    mesh = Mesh(np.array(jax.devices()[:1]), (devices.AXIS,))
    state = jax.device_get(outer_loop.init_state(model, settings))
    params = state["params"]
    state = devices.put(state, mesh)
    points = devices.put(siren.points(model, images.shape[1:3]), mesh)
    shares = PartitionSpec(None, devices.AXIS)
    values = devices.put(siren.arrange(model, images)[None], mesh, shares)
    positions = devices.put(np.arange(batch, dtype=np.int32), mesh, PartitionSpec(devices.AXIS))
    train = outer_loop.make_train(model, settings, mesh, streamed=True)
    step = train.lower(state, points, values, None, None, positions).compile()
    memory = step.memory_analysis()
    gigabytes = (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e9
    print(f"a step on one device needs {gigabytes:.2f} GB", flush=True)
    seconds = []
    for _ in range(config.rounds + 1):
        began = time.perf_counter()
        state, metrics = step(state, points, values, None, None, positions)
        devices.fetch(metrics)
        seconds.append(time.perf_counter() - began)
    fit = timed_fit(Functa(model, params, images.shape[1:3], settings.inner_steps), images)
    kind = jax.devices()[0].device_kind
    return {
        "device": "one core" if kind == "cpu" else kind,
        "device_batch": batch,
        "step_seconds": float(np.median(seconds[1:])),
        "fit_seconds_an_image": fit,
        "step_gigabytes": gigabytes,
        "step_tflop": loop.step_flops(settings, model, config.side**2) / 1e12,
        "parameters": int(sum(np.size(leaf) for leaf in jax.tree.leaves(params))),
    }


def timed_fit(functa, images):
    """Seconds of a device for the fit of an image; all local devices fit as many at once."""
    import jax

    copies = np.concatenate([images] * jax.local_device_count())
    functa.encode(copies)
    began = time.perf_counter()
    functa.encode(copies)
    return (time.perf_counter() - began) / len(images)


def multiplied(row, config):
    """Hours and bytes of the whole, on HOSTS hosts of DEVICES_A_HOST devices."""
    devices = HOSTS * DEVICES_A_HOST
    batch = devices * row["device_batch"]
    steps = config.epochs * TRAIN_IMAGES // batch
    pixels = 3 * config.side**2
    return {
        "batch": batch,
        "steps": steps,
        "training_hours": steps * row["step_seconds"] / 3600,
        "export_hours": TRAIN_IMAGES / devices * row["fit_seconds_an_image"] / 3600,
        "images_gigabytes": TRAIN_IMAGES * pixels / 1e9,
        "latents_gigabytes_float16": TRAIN_IMAGES * 2 * GRID**2 * LATENT_DIM / 1e9,
        "read_megabytes_a_second_and_host": batch / HOSTS * pixels / row["step_seconds"] / 1e6,
        "gradient_megabytes_a_step": 4 * row["parameters"] / 1e6,
    }


if __name__ == "__main__":
    cli.run(main, Config)
