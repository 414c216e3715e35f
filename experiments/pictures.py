"""Draw the pictures of finished experiments again, from their result files alone.

    python -m experiments.pictures                     half a minute
    python -m experiments.pictures prune dessilbi      those whose names begin so

For a change of style or of a figure's code: nothing is trained or measured. Pictures that show what
no result file holds (images, weights, curves of a run) are drawn by the experiment itself, when it
is run again.
"""

from dataclasses import dataclass

import numpy as np
import tyro

from experiments import runner, sweeps
from groundfloor import cli, plots
from groundfloor.errors import UserError
from groundfloor.runs import read_json

RESULTS = runner.RESULTS


@dataclass(frozen=True)
class Config:
    """Which pictures, and in which forms."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Beginnings of result files' names; default all that can be drawn."""
    figures: plots.Kind = "png"
    """pdf or svg: as vector graphics, too, beside the PNG."""


def main(config):
    """Draw; returns the names of the result files that pictures were drawn of."""
    plots.use(config.figures)
    drawn = []
    for path in sorted(RESULTS.glob("*.json")):
        draw = drawer(path.stem)
        if draw and path.stem.startswith(config.names or ("",)):
            draw(path.stem, read_json(path))
            print(path.stem, flush=True)
            drawn.append(path.stem)
    if not drawn:
        raise UserError(f"no picture of {', '.join(config.names)} can be drawn from results alone")
    return drawn


def drawer(stem):
    """The function (stem, result) that draws the pictures of a result file, or None."""
    fitting = [start for start in DRAWN if stem.startswith(start)]
    return DRAWN[max(fitting, key=len)] if fitting else None


def _path(stem, part=""):
    return RESULTS / f"{stem}{part}.png"


def prune(stem, result):
    """Accuracy, difference to magnitude and cost."""
    from prune_torch.protocol import figures

    rows = sweeps.read(RESULTS / f"{stem}.csv")
    dense = result["dense"]["test"]
    figures.accuracy(_path(stem, "_accuracy"), rows, dense)
    figures.difference(_path(stem, "_difference"), rows)
    if _path(stem, "_cost").exists():  # of latencies taken on a machine that did nothing else
        figures.cost(_path(stem, "_cost"), rows, result["token_merging"], dense)


def recovery(stem, result):
    """Accuracy against steps of recovery."""
    from experiments import prune_recovery

    curves = {}
    for row in result["table"]:
        curves.setdefault(row["method"], []).append(row)
    prune_recovery.draw(_path(stem), curves, result["dense"]["test"]["top1"])


def few_labels(stem, result):
    """Accuracy against labels."""
    from experiments import latent_readers

    latent_readers.draw(_path(stem), result["rows"])


def landscape(stem, result):
    """Accuracy against rate."""
    from optim_torch.landscape import figures

    figures.usable_rates(_path(stem, "_rates"), result["table"])


def study(stem, result):
    """Accuracy, cost and confusion."""
    from optim_torch.study import figures, insights

    names = insights.NAMES[result["dataset"]]
    counts = np.array(result["insights"]["confusion"])
    if len(result["table"]) > 1:
        figures.accuracy(_path(stem, "_accuracy"), result["table"])
        figures.cost(_path(stem, "_cost"), result["table"])
    figures.confusion(_path(stem, "_confusion"), counts, names)


def dessilbi_bases(stem, result):
    """Error and structure of every optimizer."""
    from experiments import dessilbi_bases

    dessilbi_bases.draw(_path(stem), result["table"])


def dessilbi_density(stem, result):
    """Accuracy and error against density."""
    from experiments import dessilbi_density

    dessilbi_density.draw(_path(stem), result["table"], result["dense_test_accuracy"])


def compression(stem, result):
    """Rate and distortion, beside published curves."""
    from functa_jax.tasks.compression import figures, published

    figures.rate_figure(_path(stem), by_method(result["table"]), published.curves())


def by_method(rows):
    """Rows of compression as lists, one a method."""
    names = dict.fromkeys(row["method"] for row in rows)
    return [[row for row in rows if row["method"] == name] for name in names]


def latent_classification(stem, result):
    """Accuracy against steps and training images."""
    from experiments import latent_classification

    panels = {}
    for row in result["rows"]:
        panels.setdefault(row["against"], []).append(row)
    latent_classification.draw(_path(stem), panels, 3)


def inner_steps(stem, result):
    """PSNR after each inner step and against FLOPs."""
    from experiments import inner_steps

    inner_steps.draw(_path(stem), result["rows"])


def sizes(stem, result):
    """PSNR against numbers per image."""
    from functa_jax.training import figures

    rows = [{"numbers": row["latent_dim"], **row} for row in result["table"]]  # of a vector
    figures.latent_sizes(_path(stem), rows)


def vectors(stem, result):
    """PSNR after each inner step."""
    from experiments import vectors

    *rows, pca = result["table"]
    vectors.draw(_path(stem), rows, pca["val_psnr"], result["numbers"])


def fewshot(stem, result):
    """Accuracy by features."""
    from experiments import robust_fewshot

    robust_fewshot.draw(_path(stem), result["table"])


def knockoffs(stem, result):
    """False discoveries and power."""
    from experiments import robust_knockoffs

    robust_knockoffs.draw(_path(stem), result["table"], result["q"])


def labels(stem, result):
    """Wrong labels found, and accuracy after."""
    from experiments import robust_labels

    kernel = [row for row in result["table"] if row["features"] == "kernel"]
    robust_labels.draw(_path(stem), kernel, "neighbours", "5 neighbours")


def labels_cifar10(stem, result):
    """The same on CIFAR-10."""
    from experiments import robust_labels

    robust_labels.draw(_path(stem), result["table"], "logistic", "logistic regression")


def lista(stem, result):
    """Errors by layer and away from the training codes."""
    from experiments import robust_lista

    robust_lista.draw(_path(stem), result["table"], result["shifts"])


def masking(stem, result):
    """Masked and swamped outliers."""
    from experiments import robust_masking

    robust_masking.draw(_path(stem), result["table"])


def ranking(stem, result):
    """τ against the share of wrong answers."""
    from experiments import robust_ranking

    robust_ranking.draw(_path(stem), result["table"])


DRAWN = {  # beginning of a result file's name; the longest that fits is taken
    "prune_cifar10": prune,
    "prune_recovery": recovery,
    "latent_readers_few": few_labels,
    "landscape": landscape,
    "study_cifar10": study,
    "dessilbi_bases": dessilbi_bases,
    "dessilbi_density": dessilbi_density,
    "compression_cifar10": compression,
    "inner_steps": inner_steps,
    "latent_classification": latent_classification,
    "reconstruction_mnist_sizes": sizes,
    "vectors": vectors,
    "robust_fewshot": fewshot,
    "robust_knockoffs": knockoffs,
    "robust_labels": labels,
    "robust_labels_cifar10": labels_cifar10,
    "robust_lista": lista,
    "robust_masking": masking,
    "robust_ranking": ranking,
}


if __name__ == "__main__":
    cli.run(main, Config)
