"""Do latents of a functa hold more than the few steps of its inner loop find?

    python -m experiments.lbfgs mnist      30 minutes of one core
    python -m experiments.lbfgs cifar10    2 hours of one core

Every test image is fitted by the inner loop, then on by L-BFGS (functa_jax.training.lbfgs), with
the released networks: nothing is trained. PSNR, and milliseconds of a processor an image.
Results: experiments/results/lbfgs_DATA.json.

Expected. MNIST with 64 numbers was 27.9 dB after its three steps, and 25.7 after ten of them: rates
are learned for three. If that is what the network holds, L-BFGS gains little; if the steps stop
short of it, 30 dB may be there without more training.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import functa_jax
from experiments import runner
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.checks import Count, Settings
from groundfloor.runs import Progress

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Config(Settings):
    """Which network, and how long its latents are fitted on."""

    functa: Path
    """A functa.npz."""
    iterations: tuple[Count, ...] = (5, 10, 20)
    """Iterations of L-BFGS."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    images: Count | None = None
    """Test images, at most; none: all."""
    results: Path = RESULTS
    """Folder for the result file."""


PRESETS = {
    "mnist": Config(RESULTS / "functa_mnist.npz"),
    "cifar10": Config(RESULTS / "functa_cifar10-spatial-cpu.npz"),
}


def main(config, preset):
    """Measure and write; returns the rows, dicts of steps, lbfgs_steps, test_psnr, ms."""
    functa = functa_jax.load(config.functa)
    data = exporter.data_of(functa, config.functa, config.data_dir)
    images = data.test.images[: config.images]
    _, errors = functa.course(images, 10)
    psnr = (-10 * np.log10(errors)).mean(axis=0)
    rows = [
        {"steps": steps, "lbfgs_steps": 0, "test_psnr": float(psnr[steps]), "ms": None}
        for steps in (functa.inner_steps, 10)
    ]
    rows[0]["ms"] = _milliseconds(functa, images)
    with Progress(len(config.iterations), "row") as progress:
        for iterations in config.iterations:
            longer = replace(functa, lbfgs_steps=iterations)
            row = {"steps": functa.inner_steps, "lbfgs_steps": iterations}
            row["test_psnr"] = float(longer.encode(images)[1].mean())
            rows.append({**row, "ms": _milliseconds(longer, images)})
            progress.advance(1, psnr=f"{row['test_psnr']:.2f} dB")
    about = {
        "data": data.name,
        "numbers": functa.config.numbers,
        "checkpoint": functa.hash,
        "images": len(images),
        "table": rows,
    }
    runner.write(config.results / f"lbfgs_{preset}.json", f"lbfgs {preset}", about)
    return rows


def _milliseconds(functa, images):
    """Of a processor, to fit an image of 64, compiled."""
    functa.encode(images[:64])
    began = time.process_time()
    functa.encode(images[:64])
    return 1000 * (time.process_time() - began) / 64


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
