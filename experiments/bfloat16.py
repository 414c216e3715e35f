"""Are bfloat16 operands of matrix products good enough for a functa?

    python -m experiments.bfloat16 digits          10 minutes of one core; no download
    python -m experiments.bfloat16 cifar10-grid    52 minutes of one core

`functa_jax.meta_train --precision bfloat16` multiplies numbers of 8 significant bits and adds up in
float32, in the forward pass and in all derivatives, on any device: where it has no units for that
the same comes out, slower. Latents, coordinates, sines and the optimizer stay float32, and so does
evaluation. The preset of functa_jax.meta_train after equal steps, three seeds: PSNR of validation;
and the error of the outer gradient of one batch, at the end of the first training, relative to
float64 (a glance: one batch of one run). On GPUs float32 is what JAX takes it for there, TF32 on
many. What it gains in time is in `make bench`.
Results: experiments/results/bfloat16_NAME.json.

Wanted: within 0.1 dB of float32. digits: -0.00 +- 0.01 dB, cifar10-grid: 0.00 +- 0.08.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import runner
from experiments.time_to_quality import curve, last
from functa_jax import meta_train
from functa_jax.training import devices, loop, outer_loop, starting
from functa_jax.training.samples import Samples
from groundfloor import checks, cli
from groundfloor.checks import Count, Seed
from groundfloor.data import datasets
from groundfloor.precision import KINDS
from groundfloor.runs import spread

EVALUATIONS = 10  # of a training
BATCH = 16  # images whose gradient is compared


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """What is trained, and how far."""

    preset: Literal["digits", "mnist", "cifar10-spatial-cpu"] = "digits"
    """Preset of functa_jax.meta_train."""
    steps: Count | None = None
    """Steps of each training; none: the preset's."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of initial weights and batches."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path | None = None
    """Folder for the runs; default runs/bfloat16_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table."""


PRESETS = {
    "digits": Config(),
    "cifar10-grid": Config(preset="cifar10-spatial-cpu", steps=600),
}


def main(config, name):
    """Train what is missing, compare, write the table; returns what the JSON holds."""
    out = config.out or Path("runs") / f"bfloat16_{name}"
    devices.one_cpu_device_per_core()
    preset = meta_train.PRESETS[config.preset]
    steps = config.steps or preset.steps
    every = max(1, steps // EVALUATIONS)
    preset = replace(preset, data_dir=config.data_dir, steps=steps, eval_every=every)
    data = datasets.load(preset.dataset, config.data_dir)

    def settings(kind, seed):
        return replace(preset, precision=kind, seed=seed, out=out / f"{kind}-seed{seed}")

    ends = {kind: [] for kind in KINDS}
    for seed in config.seeds:
        for kind, found in ends.items():
            found.append(last(curve(data, settings(kind, seed))))
    errors = gradient_errors(settings("float32", config.seeds[0]), data)
    rows = [
        {
            "products": kind,
            "psnr": None if None in found else spread(found),
            "minus_float32": None
            if None in found + ends["float32"]
            else spread(np.subtract(found, ends["float32"]).tolist()),
            "gradient_error": errors[kind],
        }
        for kind, found in ends.items()
    ]
    facts = {"preset": config.preset, "steps": steps, "seeds": list(config.seeds), "rows": rows}
    path = config.results / f"bfloat16_{name}.json"
    result = runner.write(path, f"bfloat16 {name}", facts)
    for row in rows:
        difference = "-" if row["psnr"] is None else runner.text(row["minus_float32"], "dB")
        error = f"{row['gradient_error']:.1e}"
        print(f"{row['products']:24s} {difference:20s} gradient's relative error {error}")
    print(path)
    return result


def gradient_errors(config, data):
    """{precision: error of the outer gradient of a batch, relative to float64} with the averaged
    parameters that a training ended with."""
    model = loop.model_config(config, data)
    params = starting.weights_of(config.out / "functa.npz", model)
    samples = Samples.of(model, data.train.take(slice(BATCH)))
    images = np.float32(samples.values) / 255

    def gradient(precision, dtype):
        cast = partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
        keys = jax.random.split(jax.random.key(0), BATCH)
        outer = replace(config, precision=precision)
        of_batch = jax.jit(partial(outer_loop.outer_gradient, model, outer))
        arrays = cast((params, samples.coords, images))
        _, found = of_batch(*arrays, (None, None), keys)
        return np.concatenate([np.float64(x).ravel() for x in jax.tree.leaves(found)])

    with jax.enable_x64(True):
        exact = gradient("float32", jnp.float64)
    return {
        kind: float(np.linalg.norm(gradient(kind, jnp.float32) - exact) / np.linalg.norm(exact))
        for kind in KINDS
    }


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
