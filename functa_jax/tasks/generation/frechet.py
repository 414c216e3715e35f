"""How like real images are generated ones? Fréchet distance, class, distance to the nearest image.

The Fréchet distance between Gaussians fitted to features of two sets of images (Heusel et al. 2017,
FID) needs a network for its features. Ours is a small ConvNet that learned the classes of the train
images, not Inception: the numbers compare rows of one table, and nothing else. A few hundred images
say little of a covariance of 64 features, so that fewer of their principal components are taken,
one for each ten images, and what is left of chance is measured by resampling the images.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from functa_jax.evaluation import reconstruction
from functa_jax.images.signals import to_float
from functa_jax.tasks.generation.classifier import FEATURES
from groundfloor import seeds

IMAGES_PER_FEATURE = 10  # at least, where a covariance is estimated
RESAMPLES = 200


def frechet_distance(a, b):
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of features a (n, d) and b (m, d).

    The trace of the root is the sum of the roots of the eigenvalues of R C_b R, R = C_a^(1/2).
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    mean = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    return float(max(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0))


def nearest(train, rows, count=1):
    """(distances, indices), (n, count) each, of the nearest rows of train (m, d) to rows (n, d).

    Distances are root mean squares over the d numbers.
    """
    finder = NearestNeighbors(n_neighbors=min(count, len(train)), algorithm="brute").fit(train)
    distances, indices = finder.kneighbors(rows)
    return distances / np.sqrt(train.shape[1]), indices


class Judge:
    """Scores sets of images (n, h, w, C), floats in [0, 1], against a data set's own images; or of
    other functions, values (n, ...) at the same points.

    test, val: Splits to compare with. labelled: whether train has two classes or more; accuracy: of
    the classifier on all of data.test, in %, None if it has not; components: principal components
    of train images' features that FID takes, and `explained`, the share of variance in them; draws:
    {row's name: FID (2, RESAMPLES) to test and validation of resampled images}, where images to
    compare with are the same for all rows.
    """

    def __init__(self, classifier, data, test, val, seed=0):
        self.classifier, self.seed, self.draws = classifier, seed, {}
        self.pixels = reconstruction.pixel_rows(data.train.values)
        features = classifier(to_float(data.train.values))[0]
        enough = max(1, min(len(test), len(val)) // IMAGES_PER_FEATURE)
        self.components = min(FEATURES, enough, len(features))
        self.axes = PCA(self.components, svd_solver="full").fit(features.astype(np.float64))
        self.explained = float(self.axes.explained_variance_ratio_.sum())
        images = to_float(test.values)
        self.references = [
            self.axes.transform(classifier(x)[0]) for x in (images, to_float(val.values))
        ]
        self.resampled = [
            self._places(f"reference {number}", len(reference))
            for number, reference in enumerate(self.references)
        ]
        self.reference_distances = self.distances(images)
        self.labelled, self.accuracy = len(np.unique(data.train.labels)) > 1, None
        if self.labelled:
            _, classes = classifier(to_float(data.test.values))
            self.accuracy = 100 * float(np.mean(classes == data.test.labels))

    def _places(self, stream, count):
        """Rows of RESAMPLES resamples of so many, with replacement."""
        random = np.random.default_rng(seeds.fold(self.seed, "resamples", stream))
        return random.integers(count, size=(RESAMPLES, count))

    def distances(self, images):
        """Distances (n,) of images to their nearest train images, root mean squares of pixels."""
        return nearest(self.pixels, reconstruction.as_rows(images))[0][:, 0]

    def row(self, name, images, labels=None, same=False):
        """A row of the table; labels: the classes that were asked for, if any; same: images are
        those of test, in their order, in another form, so that both are resampled together."""
        features, classes = self.classifier(images)
        features = self.axes.transform(features)
        places = self.resampled[0] if same else self._places(name, len(features))
        self.draws[name] = np.array(
            [
                [
                    frechet_distance(features[rows], reference[others])
                    for rows, others in zip(places, resampled, strict=True)
                ]
                for reference, resampled in zip(self.references, self.resampled, strict=True)
            ]
        )
        ratio = np.median(self.distances(images)) / np.median(self.reference_distances)
        test, validation = (frechet_distance(features, x) for x in self.references)
        row = {"images": name, "FID": test}
        row["FID ±"] = 1.96 * float(self.draws[name][0].std(ddof=1))
        row["FID to validation"] = validation
        if self.labelled:
            right = None if labels is None else 100 * float(np.mean(classes == labels))
            row["class as asked (%)"] = right
        return row | {"distance to train": float(ratio)}

    def told_apart(self, first, second, column="FID"):
        """Whether two rows' FID (or "FID to validation") differ by more than chance: by 1.96
        standard deviations of their difference over resamples, 5 % of the time by luck."""
        which = ("FID", "FID to validation").index(column)
        draws = self.draws[first["images"]][which] - self.draws[second["images"]][which]
        return bool(abs(first[column] - second[column]) > 1.96 * draws.std(ddof=1))
