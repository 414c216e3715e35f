"""How well does a network of its own hold one image, by its size, and what does sharing buy?

    python -m experiments.single_images mnist      8 minutes on 2 CPU cores

functa_jax.fit_images: SIRENs of three widths and three depths on images of two sizes, three seeds;
then single-image networks, the MNIST functa of experiments/results and PCA on the same 32 test
images, at equal numbers and at equal time.
Expected: a network of its own needs four to eight times the numbers of a shared one.
Results: single_images_mnist.json.
"""

import shlex
from dataclasses import dataclass

from experiments import runner
from groundfloor import cli


@dataclass(frozen=True, kw_only=True)
class Config(runner.SeededConfig):
    """Which preset of functa_jax.fit_images."""


FEW = "--images 0 1 2 3 --steps 500 --compare-images 32 --compare-steps 500"
PRESETS = {"mnist": Config(flags=f"{FEW} --run experiments/results/functa_mnist.npz")}


def main(config, name):
    """Run what is missing, keep its summary; returns what the JSON holds."""
    out = config.folder(f"single_images_{name}")
    flags = [*shlex.split(config.flags), "--seeds", *config.seeds]
    summary = runner.finished(["functa_jax.fit_images", name, *flags], out)
    facts = {"flags": config.flags, "seeds": list(config.seeds), **summary}
    path = config.results / f"single_images_{name}.json"
    return runner.write(path, f"single_images {name}", facts)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
