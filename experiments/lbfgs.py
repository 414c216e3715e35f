"""Do latents of a functa hold more than the few steps of its inner loop find?

    python -m experiments.lbfgs mnist      30 minutes of one core
    python -m experiments.lbfgs cifar10    10 minutes of one core

All test images are fitted by the inner loop, then on by L-BFGS (functa_jax.training.lbfgs), with
the released networks: nothing is trained. PSNR, and milliseconds of a processor an image,
measured at the end (the fits may share the machine). A killed run goes on in --out.
Results: experiments/results/lbfgs_DATA.json.

Expected. MNIST with 64 numbers: 27.9 dB after its three steps, 25.7 after ten of them, as rates are
learned for three; 29.7, 30.5 and 31.1 after 5, 10 and 20 iterations from there, where an image
takes 4, 6 and 9 times as long. So the numbers hold more than the steps find. CIFAR-10's grid, which
three steps at learned rates fit: 38.5 before, 38.7 after 5 and no more after 20. One network each.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import functa_jax
from experiments import runner
from functa_jax.evaluation import reconstruction
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.checks import Count, CountOrZero, Settings
from groundfloor.runs import Progress, Run


@dataclass(frozen=True)
class Config(Settings):
    """Which network, and how long its latents are fitted on."""

    functa: Path
    """A functa.npz."""
    lbfgs_steps: tuple[CountOrZero, ...] = (0, 5, 10, 20)
    """Iterations of L-BFGS."""
    images: Count | None = None
    """Test images, at most; none: all."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path | None = None
    """Folder for what is done; default runs/lbfgs_PRESET."""
    results: Path = runner.RESULTS
    """Folder for the result file."""


PRESETS = {
    "mnist": Config(runner.RESULTS / "functa_mnist.npz"),
    "cifar10": Config(runner.RESULTS / "functa_cifar10-spatial-cpu.npz"),
}


def main(config, preset):
    """Measure what is missing, write and print; returns what the JSON holds."""
    functa = functa_jax.load(config.functa)
    data = exporter.data_of(functa, config.functa, config.data_dir)
    images = data.test.images[: config.images]
    folder = config.out or Path(f"runs/lbfgs_{preset}")
    settings = {"checkpoint": functa.hash, "images": len(images)}
    run = Run(folder, settings, data_fingerprint=data.fingerprint)
    done = {row["lbfgs_steps"] for row in run.rows()}
    left = [steps for steps in config.lbfgs_steps if steps not in done]
    there = len(config.lbfgs_steps) - len(left)
    with Progress(len(config.lbfgs_steps), "number", start=there) as progress:
        for steps in left:
            longer = replace(functa, lbfgs_steps=steps)
            psnr = float(longer.encode(images)[1].mean())
            run.log(lbfgs_steps=steps, test_psnr=psnr)
            progress.advance(1, psnr=f"{psnr:.2f} dB")
    more = reconstruction.psnr_after_steps(functa, images, (10,))[10]
    psnr = {row["lbfgs_steps"]: row["test_psnr"] for row in run.rows()}
    table = [
        {"lbfgs_steps": steps, "test_psnr": psnr[steps], "milliseconds": milliseconds}
        for steps, milliseconds in measured(functa, config.lbfgs_steps, images[:64]).items()
    ]
    pca = reconstruction.pca(data.train.images, functa.config.numbers)
    facts = {
        "data": data.name,
        "numbers": functa.config.numbers,
        "inner_steps": functa.inner_steps,
        **settings,
        "test_psnr_after_10_inner_steps": more,
        "pca_test_psnr": reconstruction.pca_psnr(pca, images),
        "table": table,
    }
    for row in table:
        print(
            f"L-BFGS {row['lbfgs_steps']:3d}  {row['test_psnr']:.2f} dB  "
            f"{row['milliseconds']:.1f} ms an image",
            flush=True,
        )
    path = config.results / f"lbfgs_{preset}.json"
    return runner.write(path, f"lbfgs {preset}", facts, [run.environment])


def measured(functa, numbers_of_steps, images, rounds=3):
    """{lbfgs_steps: milliseconds of a processor to fit an image}, compiled; the least of `rounds`
    in turns, of these images. Wants a machine that does nothing else."""
    longer = {steps: replace(functa, lbfgs_steps=steps) for steps in numbers_of_steps}
    least = dict.fromkeys(numbers_of_steps, math.inf)
    for _ in range(1 + rounds):  # the first compiles, and is never the least
        for steps, fitting in longer.items():
            began = time.process_time()
            fitting.encode(images)
            least[steps] = min(least[steps], time.process_time() - began)
    return {steps: 1000 * seconds / len(images) for steps, seconds in least.items()}


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
