"""Do larger initial weights fit single images faster?

    python -m experiments.start_scale      8 minutes of one CPU core

SIRENs start with weights of all layers but the last times 1, 1.5, 2, 2.5 or 3 ("Fast training of
sinusoidal neural fields via scaling initialization", ICLR 2025, finds 2 to 3 ten times faster).
Each scale has its own learning rate, of five, chosen by PSNR on 8 validation images of CIFAR-10
with a seed of their own; a choice at an end of the rates is said. Then 32 test images of CIFAR-10
and the two photographs (64 pixels high) are fitted with three seeds. Steps to 40 dB are of the mean
PSNR over images, between two records by interpolation; none: not reached.
Expected: not faster to 40 dB on 32x32, where the network has four times as many weights as an image
has numbers, but far beyond it in the end; on photographs 3 dB better at 1.5 and 2, worse at 3.
Results: start_scale.json and .png.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import runner
from functa_jax.evaluation.reconstruction import mean_psnr
from functa_jax.single import fit_grid, sirens
from groundfloor import checks, cli
from groundfloor.checks import Count, Seed
from groundfloor.data import datasets
from groundfloor.plots import WIDTH, figure, legend, logarithmic, ordered
from groundfloor.runs import Progress, Run, read_json, spread, write_json

SCALES = (1.0, 1.5, 2.0, 2.5, 3.0)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TARGET = 40.0  # dB
TUNED_ON, TESTED_ON = 8, 32  # images


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """The networks, their fits, and where results go."""

    width: Count = 64
    """Units in each sine layer."""
    depth: Count = 4
    """Linear layers."""
    steps: Count = 500
    """Steps of Adam."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of initial weights."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path = Path("runs/start_scale")
    """Folder for finished fits: a stopped command goes on from them."""
    results: Path = runner.RESULTS
    """Folder for table and picture."""


def fitted(config, run, name, scale, rate, images, seeds, progress):
    """{steps: list, psnr: (seeds, records) list} of fits that are kept in a file of the run."""
    stem = f"{name}-{scale:g}-{rate:g}"
    path = run.path(f"{stem}-s{'-'.join(map(str, seeds))}.json")
    if not path.exists():
        shape = sirens.Shape(config.width, config.depth, images.shape[-1], start_scale=scale)
        fit = sirens.fit(
            shape,
            np.tile(images, (len(seeds), 1, 1, 1)),
            np.repeat(seeds, len(images)),
            steps=config.steps,
            rates=rate,
            records=sirens.marks(config.steps, 40),
        )
        errors = fit.errors.reshape(len(fit.steps), len(seeds), len(images))
        psnr = mean_psnr(errors.transpose(2, 1, 0))
        write_json(path, {"steps": fit.steps.tolist(), "psnr": psnr.tolist()})
    progress.advance(1, fit=stem)
    return read_json(path)


def steps_to(target, steps, psnr):
    """The step at which a curve first reaches the target, between records; None if it does not."""
    reached = np.flatnonzero(np.asarray(psnr) >= target)
    if not len(reached):
        return None
    last = reached[0]
    if last == 0:
        return float(steps[0])
    return float(np.interp(target, psnr[last - 1 : last + 1], steps[last - 1 : last + 1]))


def main(config):
    """Choose rates, fit, compare; returns what the JSON holds."""
    cifar10 = datasets.load("cifar10", config.data_dir)
    photos = datasets.load("photos").train.images
    tests = {
        "CIFAR-10": np.float32(cifar10.test.images[:TESTED_ON]) / 255,
        "photographs": fit_grid.reduced(photos, (64,))[64],
    }
    tuned_on = np.float32(cifar10.val.images[:TUNED_ON]) / 255
    settings = {name: getattr(config, name) for name in ("width", "depth", "steps")}
    run = Run(config.out, settings, data_fingerprint=cifar10.fingerprint)
    rows, curves = [], {}
    total = len(SCALES) * (len(RATES) + len(tests))
    print(f"{total} fits of {config.steps:,} steps; finished ones in {config.out}", flush=True)
    with Progress(total, "fit") as progress:
        for scale in SCALES:
            last = {
                rate: fitted(config, run, "val", scale, rate, tuned_on, (1000,), progress)
                for rate in RATES
            }
            rate = max(last, key=lambda rate: last[rate]["psnr"][0][-1])
            for name, images in tests.items():
                found = fitted(config, run, name, scale, rate, images, config.seeds, progress)
                curves[name, scale] = found
                reached = [steps_to(TARGET, found["steps"], psnr) for psnr in found["psnr"]]
                rows.append(
                    {
                        "images": name,
                        "scale": scale,
                        "rate": rate,
                        "rate_at_end": rate in (min(RATES), max(RATES)),
                        "psnr": spread(psnr[-1] for psnr in found["psnr"]),
                        "steps_to_40_dB": None if None in reached else spread(reached),
                    }
                )
    draw(config.results / "start_scale.png", curves)
    facts = {"seeds": list(config.seeds), "steps": config.steps, "rows": rows}
    path = config.results / "start_scale.json"
    return runner.write(path, "start_scale", facts, [run.environment])


def draw(path, curves):
    """Mean PSNR over steps, a line a scale, a panel for each kind of images."""
    names = list(dict.fromkeys(name for name, _ in curves))
    with figure(path, 1, len(names), size=(WIDTH, 2.9)) as (made, axes):
        for axis, name in zip(np.atleast_1d(axes), names, strict=True):
            scales = [scale for kind, scale in curves if kind == name]
            for number, scale in enumerate(scales):
                found, colour = curves[name, scale], ordered(number, len(scales))
                psnr = np.mean(found["psnr"], 0)[1:]
                axis.plot(found["steps"][1:], psnr, color=colour, label=f"{scale:g}")
            axis.axhline(TARGET, color="black", linewidth=0.8, linestyle="--")
            axis.set(xlabel="step", ylabel="PSNR (dB)", title=name)
            logarithmic(axis, "x")
        legend(made, axes, title="weights at\nthe start times")


if __name__ == "__main__":
    cli.run(main, Config)
