"""How well do latents hold functions other than images, beside linear codes of equal size?

    python -m experiments.functions voxels      10 minutes a seed on 2 CPU cores; no download
    python -m experiments.functions stacks      10 minutes a seed; MNIST
    python -m experiments.functions sphere      10 minutes a seed; no download
    python -m experiments.functions sound       10 minutes a seed; no download
    python -m experiments.functions video       10 minutes a seed; MNIST

Each runs the main job with three seeds, gathers the modality's metric over all test functions, of
latents and of their rivals with as many numbers a function, and what classes are read from both;
and interpolates between latents of the first seed. Rivals: PCA; on the sphere, harmonics; of sound
and video, cosines: the lowest ones, or the largest, whose places are counted, too.
Results: experiments/results/functions_NAME.json, .png (test functions, their reconstructions) and
_interpolation.png.

Expected, of rivals with as many numbers as the presets have; three seeds.
voxels, 128 numbers: latents 20.30 +- 0.01 dB, IoU 0.723 +- 0.001, 74.7 +- 1.4 % of 64 classes; PCA
19.8 dB, 0.758, 72.3 % (10 minutes of one core, and 4 for evaluation). More dB and less IoU: thin
parts stay below one half. stacks: 15.38 +- 0.05 dB, IoU 0.708 +- 0.003; PCA 15.66, 0.766; classes
99.8 +- 0.3 and 99.5 % (13 minutes of one core in all). PCA is clipped to [0, 1] here, as latents'
probabilities are.
sphere, 64: latents 21.00 +- 0.05 dB, harmonics to degree 7 20.55, PCA 20.03; classes 46.3 +- 2.9
and 47.8 % (8 minutes of one core in all).
sound, 32: latents 7.60 +- 0.11 dB (4 minutes of one core), PCA 7.0, cosines 6.6 (lowest) or 11.4
(largest); 10 vowels 64.9 +- 2.3 %, PCA 61.6, samples 71 %.
video, 128: latents 21.66 +- 0.06 dB, PCA 21.96, cosines 20.51 or 21.40; digits 50.7 +- 2.8 and
28.5 +- 2.8 % (12 minutes of one core in all; at rate 5e-3 one seed of three collapsed).
"""

import shlex
from dataclasses import dataclass

from experiments import runner
from groundfloor import cli
from groundfloor.runs import spread

KEPT = (
    "seed",
    "numbers",
    "outer_steps",
    "rollbacks",
    "test_metric",
    "test_psnr",
    "test_psnr_after_steps",
    "rivals",
    "accuracy",
    "train_seconds",
    "device",
    "commit",
    "checkpoint",
)
WALK = "--count 8 --shown 1 --frames 5"  # of the interpolation


@dataclass(frozen=True, kw_only=True)
class Config(runner.SweepConfig):
    """Which runs of functa_jax.meta_train."""

    preset: str
    """Preset of functa_jax.meta_train."""


PRESETS = {
    "voxels": Config(preset="voxels"),
    "stacks": Config(preset="voxels", flags="--dataset stacks"),
    "sphere": Config(preset="sphere"),
    "sound": Config(preset="sound"),
    "video": Config(preset="video"),
}


def main(config, name):
    """Run what is missing, then write and print the table; returns what the JSON holds."""
    stem = f"functions_{name}"
    command = ["functa_jax.meta_train", config.preset, *shlex.split(config.flags)]
    out = config.folder(stem)
    commands = {out / f"seed{seed}": [*command, "--seed", seed] for seed in config.seeds}
    runs = list(runner.all_finished(commands, config).values())
    first = next(iter(commands))
    walk = first / "interpolation"
    flags = [*shlex.split(WALK), "--run", first]
    if not (walk / "interpolate.json").exists():
        runner.ended(["functa_jax.tasks.interpolate", *flags], walk)
    path = config.results / f"{stem}.json"
    for source, target in (
        (first / "figures" / "reconstructions.png", path.with_suffix(".png")),
        (walk / "interpolate_0.png", config.results / f"{stem}_interpolation.png"),
    ):
        if source.exists():  # functions on no lattice have no picture
            runner.copy_file(source, target)
    facts = {name: runs[0][name] for name in ("data", "modality", "metric", "unit", "numbers")}
    facts |= {"metric_is": runs[0]["metric_is"], "preset": config.preset, "flags": config.flags}
    rows = table(runs)
    result = runner.write(
        path,
        f"functions {name}",
        facts
        | {"seeds": list(config.seeds), "rows": rows}
        | {"runs": [{key: run.get(key) for key in KEPT} for run in runs]},
        runs,
    )
    report(result)
    print(path)
    return result


def table(runs):
    """Rows: latents, then every rival, which no seed changes; means over the seeds, their deviation
    where there are several, and what share of classes is read right (no rival but PCA is read)."""

    def row(kind, metrics, psnrs, name):
        shares = [run["accuracy"][name]["test"] for run in runs if name in run["accuracy"]]
        return {
            "kind": kind,
            "metric": spread(metrics),
            "psnr": spread(psnrs),
            "accuracy": spread(shares) if shares else None,
        }

    ours = ([run["test_metric"] for run in runs], [run["test_psnr"] for run in runs])
    rows = [row("latents", *ours, "latents")]
    rows[0]["train_seconds"] = sum(run["train_seconds"] for run in runs) / len(runs)
    for kind, rival in runs[0]["rivals"].items():
        rows.append(row(kind, [rival["metric"]], [rival["psnr"]], kind))
    return rows


def report(result):
    """The table as text."""
    unit = f", {result['unit']}" if result["unit"] else ""
    print(
        f"\n{result['data']}, {result['numbers']} numbers: {result['metric']}{unit}, PSNR, classes"
    )
    for row in result["rows"]:
        read = "-" if row["accuracy"] is None else runner.text(row["accuracy"], "%")
        metric = runner.text(row["metric"])
        print(f"{row['kind']:36s} {metric:16s} {runner.text(row['psnr'], 'dB'):18s} {read}")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
