"""How long until a functa is good? Ours, our step with DeepMind's settings, and their step.

    python -m experiments.time_to_quality digits         25 minutes of one core
    python -m experiments.time_to_quality mnist          4 hours of one core; not yet run
    python -m experiments.time_to_quality cifar10-grid   3 hours of one core; not yet run

Seconds of training until latents of validation images, of equal size in all, reach a PSNR: 28 and
31 dB on digits, 24 and 26 on MNIST, that of PCA on CIFAR-10 (64 cells of 16 numbers). Three ways:
ours: the preset of functa_jax.meta_train, whose rates fall to 0 at the preset's steps (of grids: at
1,500, enough for that target).
DeepMind's settings: the preset's network, by our step, with the settings of their released code:
Adam at a constant rate, batches of 16, rates of the inner loop that start at random (and stay in
[0, 1]), gradients that are not clipped, no averaging. Theirs are a rate of 3e-6 and w0 = 30, for a
network of 512 x 15; here the best of RATES with w0 = 30 and the preset's, chosen with the first
seed by the steps to the last target, or if none gets there in --tuning-steps by the PSNR then; a
rate at an end of RATES is said.
plain haiku: the same training by the step of experiments/haiku_functa.py, which like DeepMind's
fits every image a second time to log its PSNR. Both steps compute the same (`bench functa` has
their difference), so it needs as many steps as the second way. There is none of a grid.

Trainings say how many steps it takes, and may run beside other jobs. What a step takes, and its
compilation, is measured at the end, once on a machine, in turns, and wants a machine that does
nothing else: delete steps.json in the folder of runs to measure it again. Seconds are the product
of the two and the compilation; evaluations are in none. A training that diverges stops, also ours.
Results: experiments/results/time_to_quality_NAME.json and .png (dB against seconds, and against the
floating-point operations of the matrix products).

Expected: the aim is a fifteenth of the plain step's time; digits miss it. To 31 dB ours takes 29 s
there, DeepMind's settings 47 s by our step and 296 s by the plain one, 10.4 times ours. To 28 dB
14, 12 and 55 s: batches of 16 get there with fewer operations than those of 64, and at the end of
20,000 steps they have 31.9 dB, the preset after 3,000 32.1.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from experiments import bench, runner, streams
from experiments.start_scale import steps_to
from functa_jax import meta_train
from functa_jax.evaluation import reconstruction
from functa_jax.training import devices, loop, starting
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo, Count, Positive, Seed
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.machine import environment, machine
from groundfloor.plots import WIDTH, figure, legend, logarithmic
from groundfloor.runs import read_json, spread, write_json

RATES = (1e-4, 3e-4, 1e-3, 3e-3)  # of Adam
TURN_SECONDS = 2.0  # of a way, when the steps take turns
OURS, DEEPMIND, HAIKU = "ours", "DeepMind's settings, our step", "plain haiku step"


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """What is trained, and how far."""

    preset: Literal["digits", "mnist", "cifar10-spatial-cpu"] = "digits"
    """Preset of functa_jax.meta_train."""
    targets: tuple[Positive, ...] = ()
    """PSNR of validation images to reach, in dB; none: that of PCA with as many numbers."""
    steps: Count = 20_000
    """Steps of DeepMind's settings, at most."""
    tuning_steps: Count = 3000
    """Steps after which their rate and frequency are chosen."""
    own_steps: Count | None = None
    """Steps of ours; none: the preset's."""
    every: AtLeastTwo = 200
    """Steps between evaluations, of all trainings."""
    rounds: Count = 5
    """Times that the steps take turns, when their times are compared."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of initial weights and batches."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    out: Path | None = None
    """Folder for the runs; default runs/time_to_quality_NAME."""
    results: Path = runner.RESULTS
    """Folder for table and picture."""


PRESETS = {
    "digits": Config(targets=(28.0, 31.0)),
    "mnist": Config(preset="mnist", targets=(24.0, 26.0), steps=16_000, tuning_steps=2000),
    "cifar10-grid": Config(
        preset="cifar10-spatial-cpu", steps=10_000, tuning_steps=1500, own_steps=1500, every=500
    ),
}


def deepminds(config, rate, w0):
    """A meta_train.Config with DeepMind's settings of both loops, and the network of `config`."""
    return replace(
        config,
        w0=w0,
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
    )


def main(config, name):
    """Train what is missing, then draw and write the table; returns what the JSON holds."""
    out = config.out or Path("runs") / f"time_to_quality_{name}"
    devices.one_cpu_device_per_core()
    own = meta_train.PRESETS[config.preset]
    own = replace(
        own,
        data_dir=config.data_dir,
        steps=config.own_steps or own.steps,
        on_divergence="stop",  # steps that a roll-back takes back would be free
    )
    data = datasets.load(own.dataset, config.data_dir)
    targets = config.targets or (of_pca(own, data),)

    def trained(way, settings, seed, steps):
        name = f"{way}-{settings.outer_rate:g}-w{settings.w0:g}-{steps}-seed{seed}"
        every, half = config.every, config.every // 2
        settings = replace(settings, seed=seed, steps=steps, eval_every=every, dispatch=half)
        return curve(data, replace(settings, out=out / name))

    first = config.seeds[0]
    settings = {
        (rate, w0): deepminds(own, rate, w0) for w0 in sorted({30.0, own.w0}) for rate in RATES
    }
    trials = {
        key: trained("deepmind", tried, first, config.tuning_steps)
        for key, tried in settings.items()
    }
    best = min(trials, key=lambda key: order(trials[key], max(targets)))
    if last(trials[best]) is None:
        raise UserError("DeepMind's settings diverge at every rate")
    theirs = settings[best]
    curves = {
        OURS: [trained("ours", own, seed, own.steps) for seed in config.seeds],
        DEEPMIND: [trained("deepmind", theirs, seed, config.steps) for seed in config.seeds],
    }
    if not own.grid:
        curves[HAIKU] = [curve | {"gflop": None} for curve in curves[DEEPMIND]]
    timing = step_times(config, own, theirs, data, out)
    curves = {way: [timed(curve, timing[way]) for curve in found] for way, found in curves.items()}
    facts = {
        "data": data.name,
        "targets_db": list(targets),
        "numbers": own.latent_dim * own.cells,
        "trials": [
            {"rate": rate, "w0": w0, "psnr": last(trial), "fault": trial["fault"]}
            for (rate, w0), trial in trials.items()
        ],
        "rate": best[0],
        "w0": best[1],
        "rate_at_end": best[0] in (min(RATES), max(RATES)),
        "seeds": list(config.seeds),
        "rows": [row(way, found, target) for target in targets for way, found in curves.items()],
        "steps": timing,
    }
    draw(config.results / f"time_to_quality_{name}.png", curves, targets)
    path = config.results / f"time_to_quality_{name}.json"
    result = runner.write(path, f"time_to_quality {name}", facts)
    report(result)
    print(path)
    return result


def of_pca(config, data):
    """Mean PSNR, in dB, of the validation images that training looks at, by PCA."""
    model = reconstruction.pca(data.train.images, config.latent_dim * config.cells)
    if model is None:
        raise UserError(f"PCA of {data.name} with as many numbers is a copy: give --targets")
    return reconstruction.pca_psnr(model, data.val.images[: loop.VALIDATION_IMAGES])


def curve(data, config):
    """A training that is kept in config.out: lists, an item an evaluation, of "steps", "psnr" (dB
    on validation) and "gflop"; "fault" where it stopped early. UserError if what is kept has other
    settings or data."""
    run = starting.open_run("time_to_quality", config, data, meta_train.NOT_IDENTITY)
    path = run.path("curve.json")
    if path.exists():
        return read_json(path)
    model, fault = loop.model_config(config, data), None
    try:
        loop.train(config, data, run)
    except loop.Diverged as error:
        fault = str(error)
    evaluated = [row for row in run.rows() if "val_psnr" in row]
    height, width, _ = data.train.images.shape[1:]
    each = loop.step_flops(config, model, height * width) / 1e9
    found = {
        "steps": [row["step"] for row in evaluated],
        "psnr": [float(row["val_psnr"][-1]) for row in evaluated],
        "gflop": [each * row["step"] for row in evaluated],
        "fault": fault,
        "environment": environment(),
    }
    write_json(path, found)
    return found


def last(curve):
    """The PSNR at the end of a training; None if it did not get there."""
    return None if curve["fault"] else curve["psnr"][-1]


def order(curve, target):
    """A key by which the better training comes first: the sooner at the target, the higher at the
    end; those that stopped early after all others."""
    steps = steps_to(target, curve["steps"], curve["psnr"])
    end = last(curve)
    return end is None, math.inf if steps is None else steps, -(end or 0)


def row(way, curves, target):
    """Of the table: how far the seeds came, how many to the target, and what it took them, if all
    came there."""
    ends = [last(curve) for curve in curves]
    row = {"way": way, "target": target, "last_psnr": None if None in ends else spread(ends)}
    row["reached"] = sum(max(curve["psnr"], default=-math.inf) >= target for curve in curves)
    for unit in ("seconds", "steps", "gflop"):
        if any(curve[unit] is None for curve in curves):
            row[unit] = None
            continue
        reached = [steps_to(target, curve[unit], curve["psnr"]) for curve in curves]
        row[unit] = None if None in reached else spread(reached)
    return row


def timed(curve, times):
    """The curve with "seconds": of compilation and of the steps until each evaluation."""
    compiled, each = times["compile_seconds"], times["step_seconds"]
    return curve | {"seconds": [compiled + each * step for step in curve["steps"]]}


def step_times(config, own, theirs, data, out):
    """For each way "step_seconds", the median of config.rounds, and "compile_seconds", measured
    once on a machine."""
    about = {
        "machine": machine(),
        "rounds": config.rounds,
        "settings": [str(replace(settings, data_dir=None)) for settings in (own, theirs)],
    }
    path = out / "steps.json"
    if path.exists() and (kept := read_json(path))["about"] == about:
        return kept["ways"]
    turns = {
        way: (streams.training(settings), settings.dispatch)
        for way, settings in ((OURS, own), (DEEPMIND, theirs))
    }
    if not own.grid:
        images = data.train.images[: theirs.batch_size]
        size, _, channels = images.shape[1:]
        shape = bench.Shape(own.width, own.depth, own.latent_dim, size, channels, len(images))
        step = bench.plain_step(shape, images.reshape(len(images), -1, channels))
        turns[HAIKU] = (lambda: step(1)), 1
    first = {way: streams.average_seconds(turn, 0) / steps for way, (turn, steps) in turns.items()}
    later = {way: [] for way in turns}
    for _ in range(config.rounds):
        for way, (turn, steps) in turns.items():
            later[way].append(streams.average_seconds(turn, TURN_SECONDS) / steps)
    ways = {
        way: {
            "step_seconds": median(later[way]),
            "compile_seconds": turns[way][1] * (first[way] - median(later[way])),
        }
        for way in turns
    }
    write_json(path, {"about": about, "ways": ways})
    return ways


def draw(path, curves, targets):
    """dB against seconds, and against the operations of matrix products; a line a seed."""
    units = {"seconds": "seconds of training", "gflop": "GFLOP of matrix products"}
    with figure(path, 1, 2, size=(WIDTH, 2.9), sharey=True) as (made, axes):
        for axis, (unit, name) in zip(axes, units.items(), strict=True):
            for number, (way, found) in enumerate(curves.items()):
                for curve in (curve for curve in found if curve[unit]):
                    axis.plot(curve[unit], curve["psnr"], color=f"C{number}", label=way)
            for target in targets:
                axis.axhline(target, color="black", linewidth=0.8, linestyle="--")
            axis.set(xlabel=name)
            logarithmic(axis, "x")
        axes[0].set(ylabel="PSNR of validation (dB)")
        legend(made, axes)


def report(result):
    """The table as text."""
    print(f"\n{result['data']}, {result['numbers']} numbers")
    for row in result["rows"]:
        values = [
            "-" if row[unit] is None else runner.text(row[unit], name)
            for unit, name in (("seconds", "s"), ("gflop", "GFLOP"))
        ]
        reached = f"{row['reached']} of {len(result['seeds'])} seeds to {row['target']:.2f} dB"
        end = "diverged" if row["last_psnr"] is None else runner.text(row["last_psnr"], "dB")
        print(f"{row['way']:32s} {reached:22s} {values[0]:24s} {values[1]:28s} at the end {end}")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
