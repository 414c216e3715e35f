"""What puts a latent vector above PCA with as many numbers?

    python -m experiments.vectors cifar10      not yet run whole

Functa's one vector an image stays within 1 dB of PCA on CIFAR-10 after three steps (Dupont et al.
2022b). A decoder
that starts as PCA (--decoder refined_pca) is above it from the first step on; here it stands beside
what else was thought of, all with as many outer steps on as many images and the same seeds:

- refined PCA: PCA's picture and four convolutions, trained at PCA's own latents;
- through a step: the same, trained through one Gauss-Newton step, at several times the work;
- 4x4 tokens: as many numbers as a grid, between whose cells points interpolate (Gauss-Newton).

Validation images, the test split is left alone; latents after 0 to 3 Gauss-Newton steps.

Found with seed 0: training through a step is 0.23 dB ahead after as many steps (27.39 against
27.15, PCA 26.49), at eight times the time; trained at PCA's latents the gain is 1.0 dB after 1,000
steps of 8 images and 1.1 after 4,000 (cifar10_vector_training.json).

Found before this with one seed each, and removed: convolutions over cells of 4x4 pixels gained
0.02 dB (200 steps of 32 images) where those over pixels gained 0.40 (120 steps); of those, a
residual network with GELUs 0.49, plain layers with sines 0.75 (300 steps of 8). Latents after a
Gauss-Newton step, held in the outer gradient as if they were the minimum, let training collapse
within 160 steps: nothing then keeps the network near enough to linear for the step to be right.
Results: vectors_NAME.json and .png.
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from experiments import runner
from functa_jax import meta_train
from functa_jax.evaluation import reconstruction
from groundfloor import cli
from groundfloor.checks import Count
from groundfloor.errors import UserError
from groundfloor.plots import COLOURS, WIDTH, figure, legend
from groundfloor.runs import Run, spread

STEPS = (0, 1, 2, 3)  # of the inner loop, after which latents are looked at
VARIANTS = {
    "refined PCA": "",
    "through a step": "--training-steps 1",
    "4x4 tokens": "--decoder siren --grid 4 --latent-dim 16 --interpolation bilinear --map-size 3 "
    "--inner-steps 3 --training-steps None --cg-iterations 3 --outer-rate 5e-3",
}


@dataclass(frozen=True, kw_only=True)
class Config(runner.SeededConfig):
    """Which preset of functa_jax.meta_train, and how many images to look at."""

    preset: str
    """Preset of functa_jax.meta_train."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    val_images: Count = 300
    """Validation images to look at."""


PRESETS = {"cifar10": Config(preset="cifar10-vector-cpu", flags="--steps 200")}


def main(config, name):
    """Train what is missing, then write, draw and print the table; returns what the JSON holds."""
    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    own = settings(config, "refined PCA", 0)
    if own.inner_steps not in STEPS:
        raise UserError(f"--inner-steps {own.inner_steps} is none of those looked at, {STEPS}")
    data = own.load(images=own.images)
    kept = {"preset": config.preset, "flags": config.flags, "val_images": config.val_images}
    out = config.folder(f"vectors_{name}")
    run = Run(out, kept | {"variants": VARIANTS}, data_fingerprint=data.fingerprint)
    val = data.val.images[: config.val_images]
    basis = reconstruction.whole_pca(data.train.images, run.folder)
    rows = run.rows()
    for seed in config.seeds:
        for variant in VARIANTS:
            if not any(row["variant"] == variant and row["seed"] == seed for row in rows):
                print(f"{variant}, seed {seed}", flush=True)
                cell = trained(settings(config, variant, seed), data, basis, val)
                run.log(variant=variant, seed=seed, **cell)
                rows = run.rows()
    pca = reconstruction.pca_psnr(reconstruction.first_components(basis, own.latent_dim), val)
    table = [over_seeds(variant, config, rows) for variant in VARIANTS]
    table.append({"variant": "PCA", "val_psnr": pca})
    path = config.results / f"vectors_{name}.json"
    facts = {"seeds": list(config.seeds), "numbers": own.latent_dim, "table": table}
    result = runner.write(path, f"vectors {name}", facts, [run.environment])
    draw(path.with_suffix(".png"), table[:-1], pca, own.latent_dim)
    for row in table[:-1]:
        psnr = runner.text(row["val_psnr"], "dB")
        print(f"{row['variant']:16s} {psnr:>16s} {row['train_seconds']['mean']:8.0f} s")
    print(f"{'PCA':16s} {pca:13.2f} dB\n{path}")
    return result


def settings(config, variant, seed):
    """The meta_train.Config of a variant."""
    words = shlex.split(f"{config.flags} {VARIANTS[variant]} --seed {seed}")
    if config.data_dir is not None:
        words += ["--data-dir", str(config.data_dir)]
    return cli.parse(meta_train.Config, meta_train.PRESETS[config.preset], words)


def trained(config, data, basis, val):
    """Train as a meta_train.Config says: validation PSNR in dB after STEPS, and seconds."""
    from functa_jax.model import refined_pca, siren
    from functa_jax.training import loop

    model, weights = loop.model_config(config, data.train.images), None
    if model.decoder == "refined_pca":
        pca = reconstruction.first_components(basis, model.numbers)
        weights = refined_pca.with_pca(siren.init(model, config.seed), pca)
    began = time.monotonic()
    functa, _ = loop.train(config, data, None, weights)
    seconds = time.monotonic() - began
    after = reconstruction.psnr_after_steps(functa, val, STEPS)
    return {
        "val_psnr_after_steps": [round(after[step], 4) for step in STEPS],
        "train_seconds": round(seconds, 1),
        "inner_steps": config.inner_steps,
    }


def over_seeds(variant, config, rows):
    """One row of the table: mean and standard deviation over the seeds."""
    own = [row for row in rows if row["variant"] == variant and row["seed"] in config.seeds]
    courses = [row["val_psnr_after_steps"] for row in own]
    return {
        "variant": variant,
        "val_psnr": spread(row["val_psnr_after_steps"][row["inner_steps"]] for row in own),
        "val_psnr_after_steps": [spread(values) for values in zip(*courses, strict=True)],
        "train_seconds": spread(row["train_seconds"] for row in own),
    }


def draw(path, rows, pca, numbers):
    """Validation PSNR after each inner step, PCA's as a line."""
    with figure(path, size=(WIDTH, 3)) as (made, ax):
        for row in rows:
            after = row["val_psnr_after_steps"]
            errors = [value["std"] or 0 for value in after]
            means = [value["mean"] for value in after]
            ax.errorbar(STEPS, means, errors, marker="o", ms=3, label=row["variant"])
        ax.axhline(pca, color=COLOURS["PCA"], ls="--", label=f"PCA, {numbers} numbers")
        ax.set(xlabel="inner steps", ylabel="validation PSNR (dB)", xticks=STEPS)
        legend(made, ax)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
