"""Does an image's latent find images of its class? Nearest neighbours by latents and by pixels.

Test images ask, train images answer: all of them, ranked by distance (ranking.py). Which distance,
is chosen by mAP on validation.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from functa_jax.tasks import task
from functa_jax.tasks.classification import features
from functa_jax.tasks.retrieval import figures
from functa_jax.tasks.retrieval.ranking import measure
from groundfloor import cli
from groundfloor.checks import LARGEST, AtLeastTwo, Interval


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """How many images ask."""

    queries: AtLeastTwo = 2000
    """Test images that ask, at most; half as many of validation choose the distance."""
    points: Annotated[int, Interval(10, LARGEST)] = 2000
    """Test images in the t-SNE map, at most."""


def main(config):
    """Rank, measure, draw; returns the report."""
    material = task.load(config)
    data = material.data
    task.require(data, "nothing is right or wrong", classes=2, val=2, test=2)
    labels = data.train.labels
    if not all(np.isin(part.labels, labels).any() for part in (data.val, data.test)):
        raise task.NotForThese(f"{data.name} has no class that train knows to ask for")
    rows, best = [], {}
    for kind in features.of_images(material, whole=False):
        print(f"neighbours by {kind.name}", flush=True)
        row, best[kind.name] = measure(kind, data, config.queries)
        rows.append(row)
    names = ["retrieve_classes.png", "retrieve_map.png"]
    if material.functa.of_images:
        names.insert(0, "retrieve_neighbours.png")
        figures.neighbour_figure(material.path(names[0]), best, data)
    figures.class_figure(material.path("retrieve_classes.png"), best, data.num_classes)
    print("t-SNE", flush=True)
    figures.map_figure(material.path("retrieve_map.png"), best, data, config.points, config.seed)
    chosen = best["latents"].labels
    error = np.nanstd(best["latents"].precisions) / np.sqrt(len(chosen))
    remarks = [
        f"{len(chosen):,} test {data.noun}s ask, {len(data.train):,} of train answer; distances "
        "were chosen by mAP on validation (val mAP). One seed; the standard error of mAP over "
        f"queries is {error:.4f}.",
        "class n: mAP of that class's queries. Chance has about the class's share of the set, "
        f"{1 / data.num_classes:.3g} on average.",
    ]
    if "PCA" not in best:
        why = "these functions have points of their own"
        if data.train.aligned:
            why = "as many numbers as pixels would be a copy"
        remarks.append(f"No row of PCA: {why}.")
    return task.report(material, "retrieve", config, rows, names, remarks)


if __name__ == "__main__":
    cli.run(main, Config)
