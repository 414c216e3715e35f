"""How long until a functa is good? Ours, our step with DeepMind's settings, and their step.

    python -m experiments.time_to_quality digits         10 minutes on 2 CPU cores
    python -m experiments.time_to_quality mnist          an hour; not yet run
    python -m experiments.time_to_quality cifar10-grid   three hours; not yet run

Seconds of training until latents of validation images, of equal size in all, reach a PSNR: 31 dB
on digits, 26 dB on MNIST, that of PCA on CIFAR-10 (64 cells of 16 numbers). Three ways:
ours: the preset of functa_jax.meta_train.
DeepMind's settings: the preset's network, by our step, with the settings of their released code:
Adam at a constant rate, batches of 16, w0 = 30, rates of the inner loop that start at random, no
clipping, no averaging. Their rate is 3e-6, for a network of 512 x 15; here the best of RATES,
chosen with the first seed by the PSNR after --tuning-steps; one at an end of RATES is said.
plain haiku: the same training by the step of experiments/haiku_functa.py, which like DeepMind's
fits every image a second time to log its PSNR. Both steps compute the same (`bench functa` has
their difference), so it needs as many steps as the second way; its seconds are these times those
of a step, which is timed in turns with ours in the same run. There is none in a grid.
Seconds of the first two ways have compilation and evaluation in them, those of the third have not.
Results: experiments/results/time_to_quality_NAME.json and .png (dB against seconds, and against the
floating-point operations of the matrix products).

Expected: the aim is a fifteenth of the plain step's time.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from experiments import bench, runner
from experiments.start_scale import steps_to
from functa_jax import meta_train
from functa_jax.evaluation import reconstruction
from functa_jax.training import devices, loop, starting
from groundfloor import checks, cli
from groundfloor.checks import Count, Positive, Seed
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.plots import WIDTH, figure, legend, logarithmic
from groundfloor.runs import environment, read_json, spread, write_json

RATES = (1e-4, 3e-4, 1e-3, 3e-3)  # of Adam
OURS, DEEPMIND, HAIKU = "ours", "DeepMind's settings, our step", "plain haiku step"
EVALUATIONS = 30  # of a training


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """What is trained, and how far."""

    preset: Literal["digits", "mnist", "cifar10-spatial-cpu"] = "digits"
    """Preset of functa_jax.meta_train."""
    target: Positive | None = None
    """PSNR of validation images to reach, in dB; none: that of PCA with as many numbers."""
    steps: Count = 20_000
    """Steps of DeepMind's settings, at most."""
    tuning_steps: Count = 3000
    """Steps after which their rate is chosen."""
    own_steps: Count | None = None
    """Steps of ours; none: the preset's."""
    rounds: Count = 5
    """Times that the two steps take turns, when their times are compared."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of initial weights and batches."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path | None = None
    """Folder for the runs; default runs/time_to_quality_NAME."""
    results: Path = runner.RESULTS
    """Folder for table and picture."""


PRESETS = {
    "digits": Config(target=31.0),
    "mnist": Config(preset="mnist", target=26.0, steps=40_000, tuning_steps=8000),
    "cifar10-grid": Config(preset="cifar10-spatial-cpu", steps=30_000),
}


def deepminds(config, rate):
    """A meta_train.Config with DeepMind's settings of both loops, and the network of `config`."""
    return replace(
        config,
        w0=30.0,
        update="rates",
        cg_iterations=1,
        rates_of_steps=False,
        rate_start=None,
        rate_range=(0.0, 1.0),
        batch_size=16,
        optimizer="adam",
        outer_rate=rate,
        schedule="constant",
        warmup=0,
        clip_norm=None,
        ema=0.0,
        on_divergence="stop",
    )


def main(config, name):
    """Train what is missing, then draw and write the table; returns what the JSON holds."""
    out = config.out or Path("runs") / f"time_to_quality_{name}"
    devices.one_cpu_device_per_core()
    own = meta_train.PRESETS[config.preset]
    own = replace(own, data_dir=config.data_dir, steps=config.own_steps or own.steps)
    data = datasets.load(own.dataset, config.data_dir)
    target = config.target or of_pca(own, data)

    def trained(way, settings, seed, steps):
        rate = f"{settings.outer_rate:g}"
        folder = out / f"{'ours' if way == OURS else 'deepmind'}-{rate}-{steps}-seed{seed}"
        every = max(1, steps // EVALUATIONS)
        settings = replace(settings, seed=seed, steps=steps, eval_every=every, dispatch=every)
        return curve(data, replace(settings, out=folder))

    first = config.seeds[0]
    trials = {
        rate: trained(DEEPMIND, deepminds(own, rate), first, config.tuning_steps) for rate in RATES
    }
    ends = {rate: last(trial) for rate, trial in trials.items()}
    if not any(ends.values()):
        raise UserError("DeepMind's settings diverge at every rate")
    best = max((rate for rate in RATES if ends[rate]), key=ends.get)
    curves = {
        OURS: [trained(OURS, own, seed, own.steps) for seed in config.seeds],
        DEEPMIND: [
            trained(DEEPMIND, deepminds(own, best), seed, config.steps) for seed in config.seeds
        ],
    }
    rows = [row(way, found, target) for way, found in curves.items()]
    timing = None if own.grid else step_times(config, own, data, out)
    if timing:
        rows.append(of_haiku(rows[-1], timing["reference_seconds"]))
    facts = {
        "data": data.name,
        "target_db": target,
        "numbers": own.latent_dim * own.cells,
        "rates": {f"{rate:g}": end for rate, end in ends.items()},
        "rate": best,
        "rate_at_end": best in (min(RATES), max(RATES)),
        "seeds": list(config.seeds),
        "rows": rows,
        "steps": timing,
    }
    draw(config.results / f"time_to_quality_{name}.png", curves, timing, target)
    path = config.results / f"time_to_quality_{name}.json"
    result = runner.write(path, f"time_to_quality {name}", facts)
    report(result)
    print(path)
    return result


def of_pca(config, data):
    """Mean PSNR, in dB, of the validation images that training looks at, by PCA."""
    model = reconstruction.pca(data.train.images, config.latent_dim * config.cells)
    if model is None:
        raise UserError(f"PCA of {data.name} with as many numbers is a copy: give --target")
    return reconstruction.pca_psnr(model, data.val.images[: loop.VALIDATION_IMAGES])


def curve(data, config):
    """{"steps", "seconds", "psnr" (dB on validation), "gflop"}: lists, an item an evaluation, of a
    training that is kept in config.out; "fault" where it stopped early. UserError if what is kept
    has other settings or data."""
    run = starting.open_run("time_to_quality", config, data, meta_train.NOT_IDENTITY)
    path = run.path("curve.json")
    if path.exists():
        return read_json(path)
    model, fault = loop.model_config(config, data), None
    try:
        loop.train(config, data, run)
    except loop.Diverged as error:
        fault = str(error)
    rows = [row for row in run.rows() if "val_psnr" in row]
    height, width, _ = data.train.images.shape[1:]
    each = loop.step_flops(config, model, height * width) / 1e9
    found = {
        "steps": [row["step"] for row in rows],
        "seconds": [row["seconds"] for row in rows],
        "psnr": [float(row["val_psnr"][-1]) for row in rows],
        "gflop": [each * row["step"] for row in rows],
        "fault": fault,
        "environment": environment(),
    }
    write_json(path, found)
    return found


def last(curve):
    """The PSNR at the end of a training; None if it did not get there."""
    return None if curve["fault"] else curve["psnr"][-1]


def row(way, curves, target):
    """Of the table: how far the seeds came, how many to the target, and what it took them, if all
    came there."""
    ends = [last(curve) for curve in curves]
    row = {"way": way, "last_psnr": None if None in ends else spread(ends)}
    for unit in ("seconds", "steps", "gflop"):
        reached = [steps_to(target, curve[unit], curve["psnr"]) for curve in curves]
        row["reached"] = sum(place is not None for place in reached)
        row[unit] = None if None in reached else spread(reached)
    return row


def of_haiku(row, each):
    """The row of a step that takes `each` seconds, and does the same."""
    steps = row["steps"]
    seconds = steps and {name: value and each * value for name, value in steps.items()}
    return row | {"way": HAIKU, "seconds": seconds}


def step_times(config, own, data, out):
    """What `bench.functa_row` says of this network, images and batches of 16, measured once; and
    the seconds of a step of the reference."""
    path = out / "steps.json"
    if not path.exists():
        height, _, channels = data.train.images.shape[1:]
        batch = deepminds(own, 1.0).batch_size
        shape = bench.Shape(own.width, own.depth, own.latent_dim, height, channels, batch)
        times = bench.functa_row(shape, bench.Config(rounds=config.rounds))
        times["reference_seconds"] = batch / times["reference_images_per_s"]
        write_json(path, times)
    return read_json(path)


def draw(path, curves, timing, target):
    """dB against seconds, and against the operations of matrix products; a line a seed."""
    units = {"seconds": "seconds of training", "gflop": "GFLOP of matrix products"}
    with figure(path, 1, 2, size=(WIDTH, 2.9), sharey=True) as (made, axes):
        for axis, (unit, name) in zip(axes, units.items(), strict=True):
            for number, (way, found) in enumerate(curves.items()):
                for curve in found:
                    axis.plot(curve[unit], curve["psnr"], color=f"C{number}", label=way)
            if unit == "seconds" and timing:
                for curve in curves[DEEPMIND]:
                    seconds = timing["reference_seconds"] * np.array(curve["steps"])
                    axis.plot(seconds, curve["psnr"], color="C2", label=HAIKU)
            axis.axhline(target, color="black", linewidth=0.8, linestyle="--")
            axis.set(xlabel=name)
            logarithmic(axis, "x")
        axes[0].set(ylabel="PSNR of validation (dB)")
        legend(made, axes)


def report(result):
    """The table as text."""
    print(f"\n{result['data']}, {result['numbers']} numbers: until {result['target_db']:.2f} dB")
    for row in result["rows"]:
        values = [
            "-" if row[unit] is None else runner.text(row[unit], name)
            for unit, name in (("seconds", "s"), ("gflop", "GFLOP"))
        ]
        reached = f"{row['reached']} of {len(result['seeds'])} seeds"
        end = "diverged" if row["last_psnr"] is None else runner.text(row["last_psnr"], "dB")
        print(f"{row['way']:32s} {reached} {values[0]:24s} {values[1]:28s} at the end {end}")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
