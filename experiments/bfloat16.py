"""Would bfloat16 operands of matrix products be good enough for a functa?

    python -m experiments.bfloat16 digits          25 minutes on 2 CPU cores; no download
    python -m experiments.bfloat16 cifar10-grid    two hours; not yet run

Devices with bfloat16 units multiply operands of 8 significant bits and add up in float32. That is
emulated on any device: operands of all products of the network are rounded, in the forward pass, in
both derivatives and in evaluation, and multiplied in float32. In one part ("bfloat16"), or as the
sum of two parts by three products ("bfloat16, 3 products"). It is not the device bit for bit: what
flows backwards is rounded after each product, as JAX's derivative of rounding has it, instead of
before the next one, so that derivatives in weights lose bits that a device keeps in float32, while
what the first product of a chain sees keeps all. Where quality is as good here, a device's was not
yet shown to be; where it is worse, the reason may be here.
The preset of functa_jax.meta_train after equal steps, three seeds: PSNR of validation; and the
error of the outer gradient of one batch, at the end of the first training, relative to float64.
Results: experiments/results/bfloat16_NAME.json.

Wanted: within 0.1 dB of float32. digits: -0.03 +- 0.05 dB with one product, 0.00 with three, where
the gradient of a batch at the end of training is off by 22 % and by 0.04 % (float32: 0.001 %).
"""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments import runner
from experiments.time_to_quality import curve, last
from functa_jax import functa, meta_train
from functa_jax.model import siren
from functa_jax.training import devices, loop, outer_loop, starting
from functa_jax.training.samples import Samples
from groundfloor import checks, cli
from groundfloor.checks import Count, Seed
from groundfloor.data import datasets
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


def rounded(x):
    """x with the 8 significant bits of bfloat16."""
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def exact_product(lhs, rhs, dimensions, **_):
    """lax.dot_general in float32, also where a device has narrower units."""
    return lax.dot_general(lhs, rhs, dimensions, precision="highest")


def one_product(lhs, rhs, dimensions, **_):
    """The product of rounded operands."""
    return exact_product(rounded(lhs), rounded(rhs), dimensions)


def three_products(lhs, rhs, dimensions, **_):
    """The product of operands that are sums of two rounded parts, without that of the small
    parts."""
    large = rounded(lhs), rounded(rhs)
    small = rounded(lhs - large[0]), rounded(rhs - large[1])
    dot = partial(exact_product, dimensions=dimensions)
    return dot(large[0], large[1]) + (dot(large[0], small[1]) + dot(small[0], large[1]))


PRODUCTS = {
    "float32": exact_product,
    "bfloat16": one_product,
    "bfloat16, 3 products": three_products,
}


@contextmanager
def products(dot_general):
    """Networks whose products are of this kind, and nothing that was compiled for others."""

    def forget():
        siren.graph.cache_clear()
        functa._compiled.cache_clear()
        jax.clear_caches()

    linear = siren.nnx.Linear
    siren.nnx.Linear = partial(linear, dot_general=dot_general)
    forget()
    try:
        yield
    finally:
        siren.nnx.Linear = linear
        forget()


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
        folder = out / f"{kind.replace(', ', '-').replace(' ', '-')}-seed{seed}"
        return replace(preset, seed=seed, out=folder)

    ends = {}
    for kind, dot_general in PRODUCTS.items():
        with products(dot_general):
            ends[kind] = [last(curve(data, settings(kind, seed))) for seed in config.seeds]
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
    """{kind of products: error of the outer gradient of a batch, relative to float64} with the
    averaged parameters that a training ended with."""
    model = loop.model_config(config, data)
    params = starting.weights_of(config.out / "functa.npz", model)
    samples = Samples.of(model, data.train.take(slice(BATCH)))
    images = np.float32(samples.values) / 255

    def gradient(dtype):
        cast = partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
        keys = jax.random.split(jax.random.key(0), BATCH)
        of_batch = jax.jit(partial(outer_loop.outer_gradient, model, config))
        arrays = cast((params, samples.coords, images))
        _, found = of_batch(*arrays, (None, None), keys)
        return np.concatenate([np.float64(x).ravel() for x in jax.tree.leaves(found)])

    with jax.enable_x64(True), products(exact_product):
        exact = gradient(jnp.float64)
    errors = {}
    for kind, dot_general in PRODUCTS.items():
        with products(dot_general):
            difference = gradient(jnp.float32) - exact
            errors[kind] = float(np.linalg.norm(difference) / np.linalg.norm(exact))
    return errors


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
