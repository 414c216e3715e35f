"""Does an image's latent find images of its class? Nearest neighbours by latents and by pixels.

Test images ask, train images answer: all of them, ranked by distance. Precision at k is the share
of the query's class among the first k; average precision (AP) is the mean, over all train images of
that class, of the precision down to their rank, and mAP its mean over queries. A distance is a
transformation before a Euclidean one; which, is chosen by mAP on validation.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.task import TaskConfig
from groundfloor import cli
from groundfloor.checks import LARGEST, Interval
from groundfloor.plots import as_rgb, figure

DISTANCES = {
    "Euclidean": FunctionTransformer,
    "standardised": StandardScaler,
    "cosine": Normalizer,
    "cosine, centred": lambda: make_pipeline(StandardScaler(with_std=False), Normalizer()),
    "whitened": lambda: PCA(whiten=True),
}
NOT_FOR_PIXELS = ("whitened",)  # pixels that never change have no variance to divide by
AT = (1, 5, 10)
BATCH = 256  # queries ranked at a time: memory is this many times the train images
CLASSES_SHOWN = 10  # columns of the table, and rows of queries in the figure
NEIGHBOURS_SHOWN = 7


@dataclass(frozen=True)
class Config(TaskConfig):
    """How many images ask."""

    queries: Annotated[int, Interval(2, LARGEST)] = 2000
    """Test images that ask, at most; half as many of validation choose the distance."""
    points: Annotated[int, Interval(10, LARGEST)] = 2000
    """Test images in the t-SNE map, at most."""


def main(config):
    """The whole task; see the module's docstring."""
    found = task.load(config)
    task.require(found.data, "nothing is right or wrong", classes=2, val=2, test=2)
    labels = found.data.train.labels
    if not all(np.isin(part.labels, labels).any() for part in (found.data.val, found.data.test)):
        raise task.NotForThese(f"{found.data.name} has no class that train knows to ask for")
    features = features_of(found)
    rows, best = [], {}
    for name, splits in features.items():
        print(f"neighbours by {name}", flush=True)
        row, best[name] = measure(name, splits, found.data, config)
        rows.append(row)
    figures = ["retrieve_neighbours.png", "retrieve_classes.png", "retrieve_map.png"]
    neighbour_figure(found.path(figures[0]), best, found.data)
    class_figure(found.path(figures[1]), rows, best, found.data.num_classes)
    print("t-SNE", flush=True)
    map_figure(found.path(figures[2]), best, found.data, config)
    chosen = best["latents"].labels
    error = np.nanstd(best["latents"].precisions) / np.sqrt(len(chosen))
    remarks = [
        f"{len(chosen):,} test images ask, {len(found.data.train):,} of train answer; distances "
        "were chosen by mAP on validation (val mAP). One seed; the standard error of mAP over "
        f"queries is {error:.4f}.",
        "class n: mAP of that class's queries. Chance has about the class's share of the images, "
        f"{1 / found.data.num_classes:.3g} on average.",
    ]
    if "PCA" not in features:
        remarks.append("No row of PCA: as many numbers as pixels would be a copy.")
    return task.report(found, "retrieve", config, rows, figures, remarks)


def features_of(found):
    """{name: {split: rows float32 (n, d)}} of latents, of PCA with as many numbers, of pixels."""
    names = ("train", "val", "test")
    splits = {name: getattr(found.data, name) for name in names}
    pixels = {name: reconstruction.pixel_rows(split.images) for name, split in splits.items()}
    latents = {
        name: reconstruction.as_rows(getattr(found.functaset, name).latents)[: len(split)]
        for name, split in splits.items()
    }
    features = {"latents": {name: rows.astype(np.float32) for name, rows in latents.items()}}
    numbers = found.functa.config.numbers
    pca = reconstruction.pca(found.data.train.images, numbers, found.folder)
    if pca is not None:
        features["PCA"] = {name: pca.transform(rows) for name, rows in pixels.items()}
    return {**features, "pixels": pixels}


@dataclass(frozen=True, eq=False)
class Found:
    """What test queries found by one feature and distance.

    rows (q, d): their transformed features; places (q,): in the test split; labels (q,);
    neighbours (q, 10) in the train split, nearest first; precisions (q,): average precision.
    """

    distance: str
    rows: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    neighbours: np.ndarray
    precisions: np.ndarray


def measure(name, splits, data, config):
    """(row of the table, Found) of one feature, with the distance that is best on validation."""
    places = {
        "val": spaced(data.val, config.queries // 2),
        "test": spaced(data.test, config.queries),
    }
    scores = {}
    for distance, make in DISTANCES.items():
        if name == "pixels" and distance in NOT_FOR_PIXELS:
            continue
        model = make().fit(splits["train"])
        asked = model.transform(splits["val"][places["val"]])
        labels = data.val.labels[places["val"]]
        *_, precisions = search(model.transform(splits["train"]), data.train.labels, asked, labels)
        scores[distance] = float(np.nanmean(precisions))
    best = max(scores, key=scores.get)
    model = DISTANCES[best]().fit(splits["train"])
    asked = model.transform(splits["test"][places["test"]])
    labels = data.test.labels[places["test"]]
    gallery = model.transform(splits["train"])
    neighbours, right, precisions = search(gallery, data.train.labels, asked, labels)
    row = {"features": name, "numbers": asked.shape[1], "distance": best, "val mAP": scores[best]}
    row |= {f"precision@{k}": float(right[:, :k].mean()) for k in AT}
    row["mAP"] = float(np.nanmean(precisions))
    if data.num_classes <= CLASSES_SHOWN:
        by_class = class_means(precisions, labels, data.num_classes)
        row |= {f"class {k}": value for k, value in enumerate(by_class)}
    return row, Found(best, asked, places["test"], labels, neighbours, precisions)


def spaced(split, count):
    """At most `count` places in a split, evenly spaced."""
    return np.linspace(0, len(split) - 1, min(len(split), count)).astype(int)


def search(gallery, gallery_labels, queries, labels):
    """Rank a gallery (m, d) for each of queries (q, d).

    Returns the first 10 neighbours int (q, 10), whether they are of the query's class, and average
    precision (q,), NaN for a class that the gallery lacks.
    """
    first, right, precisions = [], [], []
    for start in range(0, len(queries), BATCH):
        batch = slice(start, start + BATCH)
        # All are ranked: a sort takes half as long as the heaps of sklearn.neighbors.
        distances = euclidean_distances(queries[batch], gallery, squared=True)
        ranked = distances.argsort(axis=1)
        relevant = gallery_labels[ranked] == labels[batch, None]
        first.append(ranked[:, : max(AT)].copy())
        right.append(relevant[:, : max(AT)].copy())
        precisions.append(average_precision(relevant))
    return tuple(np.concatenate(parts) for parts in (first, right, precisions))


def average_precision(relevant):
    """Average precision of rankings: relevant (q, m) bool, best first -> (q,); NaN if none is."""
    hits = relevant.cumsum(axis=1)
    precision = hits / np.arange(1, relevant.shape[1] + 1)
    with np.errstate(invalid="ignore"):
        return (precision * relevant).sum(axis=1) / hits[:, -1]


def class_means(values, labels, classes):
    """Mean of values (q,), NaN left out, over each class: a list, None where there is none."""
    of_class = [values[(labels == k) & np.isfinite(values)] for k in range(classes)]
    return [float(part.mean()) if len(part) else None for part in of_class]


# ---- figures ----


def neighbour_figure(path, best, data):
    """A query of each class, and its nearest train images by latents and by pixels, framed."""
    labels = best["latents"].labels
    classes = np.unique(labels)[:CLASSES_SHOWN]
    rows = [int(np.flatnonzero(labels == k)[0]) for k in classes]
    starts = {"latents": 1.4, "pixels": 1.8 + NEIGHBOURS_SHOWN}  # columns, of one image each
    wide = starts["pixels"] + NEIGHBOURS_SHOWN
    height, width = data.test.images.shape[1:3]
    tall = height / width
    with figure(path, size=(0.6 * wide, 0.6 * tall * len(rows) + 0.4)) as (_, ax):
        for line, row in enumerate(rows):
            _show(ax, data.test.images[best["latents"].places[row]], 0, line * tall, tall)
            for side, start in starts.items():
                for number, place in enumerate(best[side].neighbours[row, :NEIGHBOURS_SHOWN]):
                    right = data.train.labels[place] == labels[row]
                    image = data.train.images[place]
                    _show(ax, image, start + number, line * tall, tall, "C2" if right else "C3")
        for start, title in (
            (0, "query"),
            (starts["latents"], "nearest by latents (green: same class, red: another)"),
            (starts["pixels"], "nearest by pixels"),
        ):
            ax.text(start, -0.1, title)
        ax.set(xlim=(-0.02, wide), ylim=(len(rows) * tall, -0.5), aspect="equal")
        ax.set_axis_off()


def _show(ax, image, left, top, tall, frame=None):
    """An image with its upper left corner at (left, top), a little less than 1 wide."""
    from matplotlib.patches import Rectangle

    right, bottom = left + 0.9, top + 0.9 * tall
    extent = (left, right, bottom, top)
    ax.imshow(as_rgb(image), extent=extent)
    if frame:
        ax.add_patch(Rectangle((left, top), 0.9, 0.9 * tall, fill=False, ec=frame, lw=2))


def class_figure(path, rows, best, classes):
    """mAP of each class, a group of bars a class."""
    width = 0.8 / len(best)
    with figure(path, size=(max(5.0, 0.55 * min(classes, 40)) + 1, 2.8)) as (_, ax):
        for number, (name, found) in enumerate(best.items()):
            values = class_means(found.precisions, found.labels, classes)
            values = [np.nan if value is None else value for value in values]
            x = np.arange(classes) + (number - (len(best) - 1) / 2) * width
            color = {"latents": "C0", "PCA": "0.35", "pixels": "0.7"}[name]
            ax.bar(x, values, width, color=color, label=f"{name}, {found.distance}")
        if classes <= CLASSES_SHOWN:
            ax.set_xticks(np.arange(classes))
        ax.set(xlabel="class", ylabel="mAP", ylim=(0, 1))
        ax.grid(False, axis="x")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def map_figure(path, best, data, config):
    """t-SNE maps of test images, by latents and by pixels, coloured by class."""
    names = ("latents", "pixels")
    with figure(path, 1, len(names), size=(8.6, 4.0)) as (made, axes):
        for ax, name in zip(axes, names, strict=True):
            found = best[name]
            kept = np.linspace(0, len(found.rows) - 1, min(config.points, len(found.rows))).astype(
                int
            )
            perplexity = min(30, (len(kept) - 1) / 3)
            rows = found.rows[kept]
            init = "pca" if min(rows.shape) > 1 else "random"
            tsne = TSNE(init=init, perplexity=perplexity, random_state=config.seed)
            x, y = tsne.fit_transform(rows).T
            colors = {"c": found.labels[kept], "cmap": "tab10", "vmin": -0.5, "vmax": 9.5}
            if data.num_classes > CLASSES_SHOWN:
                colors |= {"cmap": "nipy_spectral", "vmax": data.num_classes - 0.5}
            drawn = ax.scatter(x, y, s=6, lw=0, **colors)
            ax.set(title=f"{name}, {found.distance}", xticks=[], yticks=[])
            ax.set_aspect("equal", adjustable="datalim")
            ax.grid(False)
        ticks = range(10) if data.num_classes <= CLASSES_SHOWN else None
        made.colorbar(drawn, ax=axes, label="class", ticks=ticks)


if __name__ == "__main__":
    cli.run(main, Config)
