"""Images ranked by distance, and how good a ranking is.

Precision at k is the share of the query's class among the first k; average precision (AP) is the
mean, over all images of that class, of the precision down to their rank, and mAP its mean over
queries. A distance is a transformation before a Euclidean one.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task

FLAT = 1e-6  # of the largest variance: what varies less is rounding


class Whitening:
    """Principal components, each over its standard deviation, but for those that are FLAT, as
    where pixels never change; of rows (n, d)."""

    def fit(self, rows):
        """Itself, of these rows."""
        model = reconstruction.exact_pca(rows)
        variances = model.explained_variance_
        count = max(1, np.count_nonzero(variances > FLAT * variances[0]))
        self.components = reconstruction.first_components(model, count)
        self.components.whiten = True
        return self

    def transform(self, rows):
        """Rows (n, d) -> (n, components)."""
        return self.components.transform(rows)


DISTANCES = {
    "Euclidean": FunctionTransformer,
    "standardised": StandardScaler,
    "cosine": Normalizer,
    "cosine, centred": lambda: make_pipeline(StandardScaler(with_std=False), Normalizer()),
    "whitened": Whitening,
}
AT = (1, 5, 10)
BATCH = 256  # queries ranked at a time: memory is this many times the train images
CLASSES_SHOWN = 10  # columns of the table, and rows of queries in the figure


@dataclass(frozen=True, eq=False)
class Answers:
    """What test queries find by one kind of features and one distance.

    rows (q, d): their transformed features; places (q,): in the test split; labels (q,);
    neighbours (q, 10) in the train split, nearest first; precisions (q,): average precision.
    """

    distance: str
    rows: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    neighbours: np.ndarray
    precisions: np.ndarray


def measure(kind, data, queries):
    """(row of the table, Answers) of Features, by the distance that is best on validation.

    queries: test images that ask, at most; half as many of validation choose the distance.
    """
    gallery = reconstruction.as_rows(kind.train)[: len(data.train)]  # without augmented copies

    def ask(distance, features, split, count):
        """(model's rows, places and labels of the queries, neighbours, right, precisions)."""
        model = DISTANCES[distance]().fit(gallery)
        places = task.spaced(len(split), count)
        rows = model.transform(reconstruction.as_rows(features)[places])
        labels = split.labels[places]
        ranking = search(model.transform(gallery), data.train.labels, rows, labels)
        return rows, places, labels, *ranking

    scores = {}
    for distance in DISTANCES:
        # The principal components of more images of more numbers would take hours.
        if distance != "whitened" or min(gallery.shape) <= reconstruction.MOST_NUMBERS:
            *_, precisions = ask(distance, kind.val, data.val, queries // 2)
            scores[distance] = float(np.nanmean(precisions))
    best = max(scores, key=scores.get)
    rows, places, labels, neighbours, right, precisions = ask(best, kind.test, data.test, queries)
    row = {"features": kind.name, "numbers": gallery.shape[1], "distance": best}
    row |= {"val mAP": scores[best]}
    row |= {f"precision@{k}": float(right[:, :k].mean()) for k in AT}
    row["mAP"] = float(np.nanmean(precisions))
    if data.num_classes <= CLASSES_SHOWN:
        by_class = class_means(precisions, labels, data.num_classes)
        row |= {f"class {k}": value for k, value in enumerate(by_class)}
    return row, Answers(best, rows, places, labels, neighbours, precisions)


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
