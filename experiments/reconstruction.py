"""How well do latents reconstruct and classify images, beside PCA with as many numbers?

    python -m experiments.reconstruction digits        10 minutes on 2 CPU cores
    python -m experiments.reconstruction digits_class_loss   the same with --class-loss
    python -m experiments.reconstruction mnist         40 minutes
    python -m experiments.reconstruction mnist_sizes   60 minutes
    python -m experiments.reconstruction cifar10_cpu   10 minutes
    python -m experiments.reconstruction cifar10       hours on a GPU; not yet run
    python -m experiments.reconstruction celeba64      days on a GPU; not yet run
    python -m experiments.reconstruction cifar10_vector_cpu        not yet run whole
    python -m experiments.reconstruction digits_spatial            25 minutes; not yet run
    python -m experiments.reconstruction cifar10_spatial_cpu       2 hours of one core a seed
    python -m experiments.reconstruction cifar10_spatial_gradient  an hour
    python -m experiments.reconstruction cifar10_spatial           hours on a GPU; not yet run

Each runs the main job for every latent size and seed, with settings that are otherwise equal, and
gathers test PSNR (mean of per-image) and test accuracy. A killed experiment goes on where it was.
Grids are fitted by Gauss-Newton; cifar10_spatial_gradient has gradient steps at learned rates. It
and the result of mnist began at twice the preset's outer rate and went back once, to half of it;
presets have what they ended with. cifar10_gauss_newton_psnr.json is of an older training by
Gauss-Newton, 3,000 steps: 38.90 dB. MNIST has gradient steps: after about as long (4 to 5 minutes
of a busy core) validation has 23.5 dB with Gauss-Newton (400 steps, two conjugate gradients), 23.8
with one rate for all steps (1,000 steps of 16) and 23.9 with one for each; single trials.
Results: experiments/results/reconstruction_NAME.json, and .png where there are several sizes.

Expected. digits: 31 dB or more, 98 %. mnist: 30 dB is the aim within an hour
(27.9 after three steps; experiments.lbfgs goes on from there to 31). mnist_sizes: not
published by anybody; 5,000 steps each. cifar10: COIN++ (Dupont et al. 2022b) reached 27.5 / 31.7 /
37.0 dB with 256 / 512 / 1024 numbers after 3 steps, 27.8 / 32.1 / 37.6 after 10, PCA 26.6 / 30.8 /
37.9 dB. cifar10_cpu: a small network for
a short time, which proves the path and claims nothing. celeba64: functa (Dupont et al. 2022a)
reached about 21.6 / 23.5 / 25.6 / 28.0 / 30.7 dB with 64 / 128 / 256 / 512 / 1024 numbers. Spatial,
8x8x16 numbers on CIFAR-10: 39.0 dB (Bauer et al. 2023), public re-runs 34.4; PCA of the whole
image with as many numbers 37.9, of 4x4 patches 34.8. The aims are 39.5 dB on a CPU (39.1 after
83 to 96 minutes of training on one core, three seeds), 41 on a GPU.
"""

import shlex
import statistics
from dataclasses import dataclass

from experiments import runner
from functa_jax.training import figures
from groundfloor import cli
from groundfloor.checks import Count, Seed

KEPT = (
    "latent_dim",
    "numbers",
    "seed",
    "rollbacks",
    "outer_steps",
    "test_psnr",
    "test_psnr_after_steps",
    "pca_test_psnr",
    "accuracy",
    "train_seconds",
    "device",
    "commit",
    "checkpoint",
)


@dataclass(frozen=True, kw_only=True)
class Config(runner.SweepConfig):
    """Which runs of functa_jax.meta_train."""

    preset: str
    """Preset of functa_jax.meta_train."""
    sizes: tuple[Count, ...]
    """Numbers of an image, in grids of a cell."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds of each size."""


PRESETS = {
    "digits": Config(preset="digits", sizes=(32,), seeds=(0, 1, 2)),
    "digits_class_loss": Config(
        preset="digits", sizes=(32,), seeds=(0, 1, 2), flags="--class-loss"
    ),
    "mnist": Config(preset="mnist", sizes=(64,)),
    "mnist_sizes": Config(
        preset="mnist",
        sizes=(16, 32, 64, 128),
        flags="--steps 5000 --optimizer adam --outer-rate 1e-3 --classifier-rows 10000",
    ),
    "cifar10_cpu": Config(
        preset="cifar10",
        sizes=(128,),
        flags="--width 64 --depth 5 --w0 20 --batch-size 16 --steps 1000 --outer-rate 1e-3 "
        "--warmup 100 --eval-every 250 --classifier-rows 2000 --on-divergence rollback",
    ),
    "cifar10": Config(preset="cifar10", sizes=(256, 512, 1024), flags="--on-divergence rollback"),
    "digits_spatial": Config(preset="digits-spatial", sizes=(8,), seeds=(0, 1, 2)),
    "cifar10_vector_cpu": Config(preset="cifar10-vector-cpu", sizes=(256, 512, 1024)),
    "cifar10_spatial_cpu": Config(preset="cifar10-spatial-cpu", sizes=(16,), seeds=(0, 1, 2)),
    "cifar10_spatial_gradient": Config(
        preset="cifar10-spatial-cpu",
        sizes=(16,),
        flags="--update rates --cg-iterations 1 --steps 7000 --eval-every 500 --outer-rate 1e-2 "
        "--classifier-rows 5000",
    ),
    "cifar10_spatial": Config(preset="cifar10-spatial", sizes=(16,)),
    "celeba64": Config(
        preset="celeba64", sizes=(64, 128, 256, 512, 1024), flags="--on-divergence rollback"
    ),
}


def main(config, name):
    """Run what is missing, then write and print the table; returns what the JSON holds."""
    stem = f"reconstruction_{name}"
    out = config.folder(stem)
    command = ["functa_jax.meta_train", config.preset, *shlex.split(config.flags)]
    commands = {
        out / f"latent{size}-seed{seed}": [*command, "--latent-dim", size, "--seed", seed]
        for size in config.sizes
        for seed in config.seeds
    }
    summaries = list(runner.all_finished(commands, config).values())
    table = [mean_over_seeds(size, summaries) for size in config.sizes]
    path = config.results / f"{stem}.json"
    result = runner.write(
        path,
        f"reconstruction {name}",
        {
            "preset": config.preset,
            "flags": config.flags,
            "table": table,
            "seeds": list(config.seeds),
            "runs": [{key: summary.get(key) for key in KEPT} for summary in summaries],
        },
        summaries,
    )
    if len(table) > 1:
        figures.latent_sizes(path.with_suffix(".png"), table)
    print("\nnumbers  test PSNR              PCA  test accuracy")
    for row in table:
        accuracy = ", ".join(f"{k} {100 * v:.2f} %" for k, v in row["test_accuracy"].items())
        psnr = runner.text({"mean": row["test_psnr"], "std": row["test_psnr_std"]}, "dB")
        pca = "-" if row["pca_test_psnr"] is None else f"{row['pca_test_psnr']:.2f} dB"
        print(f"{row['numbers']:7d}  {psnr:16s} {pca:>9s}  {accuracy}")
    print(path)
    return result


def mean_over_seeds(size, summaries):
    """One row of the table: means over the seeds, and the PSNR's sample standard deviation."""
    runs = [summary for summary in summaries if summary["latent_dim"] == size]
    psnr = [run["test_psnr"] for run in runs]
    return {
        "latent_dim": size,
        "numbers": runs[0]["numbers"],
        "seeds": [run["seed"] for run in runs],
        "test_psnr": statistics.mean(psnr),
        "test_psnr_std": statistics.stdev(psnr) if len(psnr) > 1 else None,
        "pca_test_psnr": runs[0]["pca_test_psnr"],  # of no seed
        "test_accuracy": {
            name: statistics.mean(run["accuracy"][name]["test"] for run in runs)
            for name in runs[0]["accuracy"]
        },
        "train_seconds": statistics.mean(run["train_seconds"] for run in runs),
    }


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
