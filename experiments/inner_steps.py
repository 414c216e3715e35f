"""What does each change of the inner loop, or of the decoder, buy, in dB and in dB per FLOP?

    python -m experiments.inner_steps digits           15 minutes on 2 CPU cores
    python -m experiments.inner_steps digits_spatial   2 hours (with one seed 40 minutes)
    python -m experiments.inner_steps cifar10          hours; 1,500 steps each, a small network

digits and cifar10 are not yet run.

Functa's three steps from zero at one learned rate per number are close to a linear encoder, which
PCA beats easily. Each variant changes one thing: rates of their own for every step, four times the
steps, and Gauss-Newton steps by one or three conjugate gradients (three have the work of four times
the steps). All have as many outer steps and the same seeds, and are compared on validation images,
the test split being left alone.

Found on digits_spatial: with Muon outside rates per step gain nothing and twelve steps diverge.
Three more ideas were tried with three seeds and removed: one rate 31.02 dB, rates per step 31.13, a
learned matrix in place of rates 31.17, a start from PCA 31.23 (seeds spread by 0.4 dB), cells that
overlap, their colours blended, 30.2 at four times the work. Gauss-Newton gains 1.1 dB with one
conjugate gradient and 3.9 dB with three, at 1.9 and 3.6 times the work of an outer step.
FLOPs are those of the matrix products in one outer gradient and in one image's inner loop.
Results: inner_steps_NAME.json and .png, validation PSNR after each step and against FLOPs.
"""

import math
import shlex
from dataclasses import dataclass
from functools import partial

from matplotlib.ticker import MaxNLocator

from experiments import runner
from functa_jax import meta_train
from groundfloor import checks, cli
from groundfloor.plots import WIDTH, figure, legend
from groundfloor.runs import read_rows, spread

GRADIENT = "--cg-iterations 1 --update rates"  # not the Gauss-Newton steps of spatial presets
VARIANTS = {
    "one rate": f"{GRADIENT} --no-rates-of-steps",
    "rate per step": f"{GRADIENT} --rates-of-steps",
    "12 steps": f"{GRADIENT} --rates-of-steps --inner-steps 12",
    "Gauss-Newton, 1 CG": "--update gauss_newton --cg-iterations 1 --rates-of-steps",
    "Gauss-Newton, 3 CG": "--update gauss_newton --cg-iterations 3 --rates-of-steps",
}


@dataclass(frozen=True, kw_only=True)
class Config(runner.SweepConfig):
    """Which runs of functa_jax.meta_train."""

    preset: str
    """Preset of functa_jax.meta_train."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Variants to compare."""

    def __post_init__(self):
        super().__post_init__()
        checks.require(self.variants, "variants", self.variants, "needs at least one")
        for name in self.variants:
            why = f"no such one; there are {', '.join(VARIANTS)}"
            checks.require(name in VARIANTS, "variants", name, why)


PRESETS = {
    "digits": Config(preset="digits", flags="--steps 1000 --eval-every 250 --rate-start 0.05"),
    "digits_spatial": Config(preset="digits-spatial", flags="--steps 600 --eval-every 100"),
    "cifar10": Config(
        preset="cifar10-spatial-cpu",
        flags="--steps 1500 --eval-every 250 --images 20000 --classifier-rows 1000",
        seeds=(0,),
    ),
}


def main(config, name):
    """Run what is missing, then write and print the table; returns what the JSON holds."""
    stem = f"inner_steps_{name}"
    out = config.folder(stem)
    folders = {
        variant: [out / f"{variant.replace(' ', '_').replace(',', '')}-{s}" for s in config.seeds]
        for variant in config.variants
    }
    commands = {
        folder: ["functa_jax.meta_train", config.preset, *flags_of(config, v), "--seed", seed]
        for v in config.variants
        for seed, folder in zip(config.seeds, folders[v], strict=True)
    }
    all_summaries = runner.all_finished(commands, config)
    rows = []
    for variant in config.variants:
        flags = flags_of(config, variant)
        summaries = [all_summaries[folder] for folder in folders[variant]]
        after = [last_validation_psnr(folder) for folder in folders[variant]]
        rows.append(
            {
                "variant": variant,
                "flags": " ".join(flags),
                "val_psnr": spread(psnr[-1] for psnr in after),
                "val_psnr_after_steps": after[0],
                "train_seconds": [summary["train_seconds"] for summary in summaries],
                "commits": sorted({summary["commit"] for summary in summaries}),
                **flops(config.preset, flags),
            }
        )
    path = config.results / f"{stem}.json"
    facts = {"seeds": list(config.seeds), "rows": rows}
    result = runner.write(path, f"inner_steps {name}", facts, all_summaries.values())
    draw(path.with_suffix(".png"), rows)
    print("\nvariant                      validation PSNR   MFLOP to fit   GFLOP a training image")
    for row in rows:
        psnr = runner.text(row["val_psnr"], "dB")
        fit, outer = row["fit_flops"] / 1e6, row["outer_flops"] / 1e9
        print(f"{row['variant']:27s} {psnr:>16s} {fit:14.2f} {outer:14.3f}")
    print(path)
    return result


def flags_of(config, variant):
    """Flags of functa_jax.meta_train for a variant, as words."""
    return shlex.split(f"{config.flags} {VARIANTS[variant]}")


def last_validation_psnr(folder):
    """Validation PSNR of a finished run after each inner step, of averaged weights."""
    rows = read_rows(folder / "metrics.jsonl")
    return [row["val_psnr"] for row in rows if "val_psnr" in row][-1]


def flops(preset, flags):
    """FLOPs for one image: of an outer gradient and of the inner loop without one."""
    import jax
    import jax.numpy as jnp

    from functa_jax.model import siren
    from functa_jax.training import inner_loop, loop, outer_loop

    config = cli.parse(meta_train.Config, meta_train.PRESETS[preset], flags)
    images = config.load(images=1).train.images[:1]
    model = loop.model_config(config, images)
    params = jax.eval_shape(lambda: siren.init(model, 0))
    coords = siren.points(model, images.shape[1:3])
    pixels = jnp.asarray(siren.arrange(model, images) / 255, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 1)

    def fit(params, coords, image):
        network = siren.with_params(model, params)
        return inner_loop.fit(network, coords, image, config.inner_steps)

    gradient = partial(outer_loop.outer_gradient, model, config)
    return {
        "outer_flops": product_flops(gradient, params, coords, pixels, (None, None), keys),
        "fit_flops": product_flops(fit, params, coords, pixels[0]),
    }


def product_flops(function, *arguments):
    """FLOPs of the matrix products in a call of a JAX function.

    XLA's own count and `jax.experimental.roofline` take the body of a scan once.
    """
    import jax
    from jax.extend.core import jaxprs_in_params

    def of(jaxpr):
        return sum(
            2 * eqn.outvars[0].aval.size * _contracted(eqn)
            if eqn.primitive.name == "dot_general"
            else eqn.params.get("length", 1) * sum(map(of, jaxprs_in_params(eqn.params)))
            for eqn in jaxpr.eqns
        )

    return of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _contracted(product):
    """Terms in each sum of a matrix product."""
    (left, _), _ = product.params["dimension_numbers"]
    return math.prod(product.invars[0].aval.shape[axis] for axis in left)


def draw(path, rows):
    """Validation PSNR after each inner step, and at the end against FLOPs of training.

    rows: those of the result file; what is no variant any more is left out.
    """
    with figure(path, 1, 2, size=(WIDTH, 3.4)) as (made, (by_step, by_flops)):
        for row in rows:
            if row["variant"] not in VARIANTS:
                continue
            after, end = row["val_psnr_after_steps"], row["val_psnr"]
            by_step.plot(range(len(after)), after, "o-", ms=3, label=row["variant"])
            by_flops.errorbar(row["outer_flops"] / 1e6, end["mean"], end["std"], fmt="o", capsize=3)
        by_step.set(xlabel="steps of the inner loop", ylabel="validation PSNR (dB)")
        by_step.xaxis.set_major_locator(MaxNLocator(integer=True))
        by_flops.set(xlabel="MFLOP of training, an image and step")
        by_flops.set_xlim(left=0)
        legend(made, by_step, loc="outside lower center", ncols=3)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
