"""How few bits does a CIFAR-10 image take as a latent, beside PCA, files and published codecs?

    python -m experiments.compression --functaset FILE       20 minutes of one CPU core
    python -m experiments.compression --functaset FILE --methods latents PCA    some of it alone

FILE: python -m functa_jax.export --run experiments/results/functa_cifar10-spatial-cpu.npz
--dataset cifar10 --out FILE --dtype float16, 4 minutes.

All 10,000 test images, one seed. Latents of functa_cifar10-spatial-cpu.npz (8x8x16 numbers) and PCA
go through one codec: decorrelating transform of blocks, equal steps, an entropy model that sees the
symbols before, rounding that weighs bits, `constriction`'s range coder, reconstruction at
conditional means. The decoder was trained on with rounded latents
(functa_jax.tasks.compression.adapt). What each part buys is measured on validation latents. Tried
there and left out: moving what is rounded against the error of the picture, and rounding anew (0.02
dB for ten times the time of choosing symbols).
Published points and what they count: functa_jax/tasks/compression/published_cifar10.json.
Each point is kept as soon as it is measured; a killed experiment goes on where it was.
Results: compression_cifar10.json, its figure, and the adapted network, functa_cifar10_rounded.npz.

Expected: RECOMBINER (He et al. 2024) reaches 27.2 / 28.5 / 30.9 / 32.2 dB at 0.72 / 0.94 / 1.53 /
1.92 bits per pixel and takes 8 to 11 seconds of an A100 to encode an image. The aim is as much at
a thousandth of the time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import compression_parts, runner
from functa_jax.functa import load
from functa_jax.tasks import task
from functa_jax.tasks.compression import adapt, curves, figures, methods, published
from groundfloor import cli, tables
from groundfloor.checks import Count, Positive
from groundfloor.errors import UserError
from groundfloor.runs import Progress, read_json, write_json

STEM = "compression_cifar10"
ADAPTED = "functa_cifar10_rounded.npz"
CODED = ("latents", "PCA", "PCA of 8x8 blocks")  # through our codec
TIMES = "times"
TIMED_STEPS = (50.0,)


@dataclass(frozen=True, kw_only=True)
class Config(task.TaskConfig):
    """What is measured, with which training; functaset: functa_jax.export --run FUNCTA makes it."""

    run: Path = runner.RESULTS / "functa_cifar10-spatial-cpu.npz"
    """The functa that fits latents."""
    out: Path = Path("runs") / STEM
    """Folder for points that are measured."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""
    methods: tuple[str, ...] = ()
    """Measure these alone and write no table; none: all that is missing, and the table."""
    steps: tuple[Positive, ...] = (72.0, 50.0, 36.0, 24.0)
    """Steps of the quantiser, in grey levels."""
    training: Count = 600
    """Steps that train each entropy model."""
    adapting: Count = 1000
    """Steps that adapt the decoder to rounded latents."""


def main(config):
    """Measure what is missing, then write and print the table; returns what the JSON holds."""
    material = task.load(config, images_only=True)
    images = material.data.test.images
    settings = {"steps": config.training, "seed": config.seed}
    facts = {"origin": material.origin, "training": config.training, "adapting": config.adapting}
    facts["seed"] = config.seed
    ours = {"latents", compression_parts.METHOD, TIMES}
    decoder = (
        adapted(config, material.functa) if ours & set(config.methods or ours) else material.functa
    )
    rows, shown = np.arange(len(images)), task.spaced(len(images), 1)
    work = methods.work(material, decoder, rows, shown, config.steps, settings, config.out)
    work[compression_parts.METHOD] = compression_parts.work(material, decoder, settings)
    work[TIMES] = timing(material, decoder, config.out)
    unknown = set(config.methods) - set(work)
    if unknown:
        raise UserError(f"--methods {' '.join(unknown)}: there are {', '.join(work)}")
    chosen = {name: work[name] for name in config.methods or work}
    table = []
    with Progress(sum(map(len, chosen.values())), "point") as progress:
        for method, points in chosen.items():
            for setting, measure in points.items():
                name = f"{method}-{setting}".replace(" ", "_").replace(":", "")
                table.append(kept(config.out / f"{name}.json", facts, measure, images))
                progress.advance(1, method=method)
    return None if config.methods else write(config, facts, table)


def timing(material, decoder, folder):
    """{method: function that measures processor times}, on few images; entropy models need no
    training for that."""
    rows = np.arange(curves.TIMED)
    work = methods.work(material, decoder, rows, rows[:1], TIMED_STEPS, {"steps": 0}, folder)

    def measure(method):
        point = [*work[method].values()][len(work[method]) // 2]()
        return {"timed": method, "setting": point.setting, **methods.times(point)}

    return {method: lambda method=method: measure(method) for method in work}


def adapted_folder(config):
    """Where the adapted network lies."""
    return config.out / f"adapted-{config.adapting}-seed{config.seed}"


def adapted(config, functa):
    """The Functa that compression.adapt makes of config.run's, made where it is missing."""
    folder = adapted_folder(config)
    if not (folder / "functa.npz").exists():
        settings = {"run": config.run, "functaset": config.functaset, "data_dir": config.data_dir}
        adapt.main(adapt.Config(**settings, out=folder, steps=config.adapting, seed=config.seed))
    found = load(folder / "functa.npz")
    if found.metadata["adapted_from"] != functa.hash:
        raise UserError(f"{folder} was adapted from another functa: delete it")
    return found


def kept(path, facts, measure, images):
    """The row of a measurement, from its file if there is one."""
    if path.exists():
        found = read_json(path)
        if found["facts"] != facts:
            raise UserError(f"{path} was measured with other settings: give another --out")
        return found["row"]
    point = measure()
    row = point
    if isinstance(point, curves.Point):
        row = {
            name: value
            for name, value in methods.row(point, images).items()
            if not name.endswith("/image")  # times: see `timing`
        }
    write_json(path, {"facts": facts, "row": row})
    return row


def write(config, facts, table):
    """Write the table, the figure and the adapted network; print them; returns the JSON."""
    by_method, times, parts = {}, [], []
    for row in table:
        if "timed" in row:
            times.append(row)
        elif "method" in row:
            by_method.setdefault(row["method"], []).append(row)
        else:
            parts.append(row)
    names = [*compression_parts.SETTINGS, compression_parts.ADAPTED]
    others = published.curves()
    runner.copy_file(adapted_folder(config) / "functa.npz", config.results / ADAPTED)
    result = runner.write(
        config.results / f"{STEM}.json",
        "compression",
        {
            **facts,
            "seeds": [config.seed],
            "table": [row for rows in by_method.values() for row in rows],
            "times": times,
            "against": against(by_method, others),
            "parts": [{"part": name, **row} for name, row in zip(names, parts, strict=True)],
        },
    )
    figures.rate_figure(config.results / f"{STEM}.png", [*by_method.values()], others)
    for name in ("table", "against", "times"):
        print(f"\n{tables.as_text(result[name])}")
    print("".join(f"\n{row}" for row in result["parts"]))
    return result


def against(curves_of, others):
    """Rows: the published rates that latents reach, their dB, and ours, latents' and PCA's."""
    (low, _), *_, (high, _) = points(curves_of["latents"])
    return [
        {
            "published": other.method,
            "bits/pixel": rate,
            "PSNR (dB)": psnr,
            **{f"{method} (dB)": psnr_at(curves_of[method], rate) for method in CODED},
            "latents ahead (dB)": psnr_at(curves_of["latents"], rate) - psnr,
        }
        for other in others
        for rate, psnr in other.points
        if low <= rate <= high
    ]


def points(rows):
    """((bits per pixel, dB), ...) of rows, by rising rate."""
    return sorted((row["bits/pixel"], row["PSNR (dB)"]) for row in rows)


def psnr_at(rows, rate):
    """dB at a rate, linear in its logarithm between two rows; None out of their range."""
    rates, psnr = np.transpose(points(rows))
    if not rates[0] <= rate <= rates[-1]:
        return None
    return float(np.interp(np.log(rate), np.log(rates), psnr))


if __name__ == "__main__":
    cli.run(main, Config)
