"""How like real images are generated ones? Fréchet distance, class, distance to the nearest image.

The Fréchet distance between Gaussians fitted to features of two sets of images (Heusel et al. 2017,
FID) needs a network for its features. Ours is a small ConvNet that learned the classes of the train
images, not Inception: the numbers compare rows of one table, and nothing else. A few hundred images
say little of a covariance of 64 features, so that fewer of their principal components are taken,
one for each ten images, and what is left of chance is measured by resampling the images.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from functa_jax.evaluation import reconstruction
from functa_jax.training import devices
from groundfloor import seeds
from groundfloor.runs import Progress

FEATURES = 64
IMAGES_PER_FEATURE = 10  # at least, where a covariance is estimated
RESAMPLES = 200
BATCH = 128
RATE = 2e-3


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


class ConvNet(nnx.Module):
    """Two convolutions, each with halving, and two dense layers: images (B, h, w, C) -> logits."""

    def __init__(self, resolution, channels, num_classes, *, rngs):
        sides = [side // 4 for side in resolution]
        self.first = nnx.Conv(channels, 24, (3, 3), rngs=rngs)
        self.second = nnx.Conv(24, 48, (3, 3), rngs=rngs)
        self.third = nnx.Linear(48 * sides[0] * sides[1], FEATURES, rngs=rngs)
        self.last = nnx.Linear(FEATURES, num_classes, rngs=rngs)

    def features(self, images):
        """(B, FEATURES), before the last layer."""
        h = images
        for layer in (self.first, self.second):
            h = nnx.max_pool(nnx.relu(layer(h)), (2, 2), strides=(2, 2))
        return jnp.tanh(self.third(h.reshape(len(h), -1)))

    def __call__(self, images):
        return self.last(self.features(images))


class Classifier:
    """A trained ConvNet; images are floats (n, h, w, C) in [0, 1]."""

    def __init__(self, graph, params):
        self.params = params

        @jax.jit
        def apply(params, images):
            features = nnx.merge(graph, params).features(images)
            return features, nnx.merge(graph, params).last(features)

        self.apply = apply

    def __call__(self, images, batch=128):
        """(features (n, FEATURES), classes (n,)) of images."""
        mesh = devices.data_mesh(batch)
        parts = []
        for start in range(0, len(images), batch):
            rows = np.asarray(images[start : start + batch], np.float32)
            padded = np.pad(rows, [(0, batch - len(rows))] + [(0, 0)] * (rows.ndim - 1))
            padded = devices.put(padded, mesh, PartitionSpec(devices.AXIS))
            features, logits = self.apply(self.params, padded)
            parts.append([np.asarray(x)[: len(rows)] for x in (features, logits)])
        features, logits = (np.concatenate(x) for x in zip(*parts, strict=True))
        return features, logits.argmax(axis=1)


def train_classifier(train, num_classes, steps, seed):
    """A Classifier of a Split's images, after `steps` batches of 128 (Adam, cosine to zero)."""
    resolution, channels = train.images.shape[1:3], train.images.shape[3]

    def network(key):
        return ConvNet(resolution, channels, num_classes, rngs=nnx.Rngs(key))

    graph = nnx.split(nnx.eval_shape(lambda: network(0)))[0]
    weights = jax.random.fold_in(jax.random.key(seed), seeds.number("judge's weights"))
    params = jax.jit(lambda key: nnx.state(network(key)))(weights)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, images, labels):
        def loss_of(params):
            logits = nnx.merge(graph, params)(images.astype(jnp.float32) / 255)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, gradient = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, loss

    mesh = devices.data_mesh(BATCH)
    params, state = (devices.put(tree, mesh) for tree in (params, jax.jit(optimizer.init)(params)))
    random = np.random.default_rng(seeds.fold(seed, "judge's batches"))
    with Progress(steps, "classifier step") as progress:
        for number in range(1, steps + 1):
            rows = random.integers(len(train), size=BATCH)
            batch = (train.images[rows], train.labels[rows])
            batch = (devices.put(x, mesh, PartitionSpec(devices.AXIS)) for x in batch)
            params, state, loss = step(params, state, *batch)
            if number % 50 == 0 or number == steps:
                done = number - progress.done
                progress.advance(done, loss=f"{float(loss):.4f}")
    return Classifier(graph, params)


class Judge:
    """Scores sets of images (n, h, w, C), floats in [0, 1], against a data set's own images.

    test, val: Splits to compare with. accuracy: of the classifier on all of data.test, in %;
    components: principal components of train images' features that FID takes, and `explained`, the
    share of variance in them; draws: {row's name: FID (2, RESAMPLES) to test and validation of
    resampled images}, where images to compare with are the same for all rows.
    """

    def __init__(self, classifier, data, test, val, seed=0):
        self.classifier, self.seed, self.draws = classifier, seed, {}
        self.pixels = reconstruction.pixel_rows(data.train.images)
        features = classifier(data.train.images / np.float32(255))[0]
        enough = max(1, min(len(test), len(val)) // IMAGES_PER_FEATURE)
        self.components = min(FEATURES, enough, len(features))
        self.axes = PCA(self.components, svd_solver="full").fit(features.astype(np.float64))
        self.explained = float(self.axes.explained_variance_ratio_.sum())
        images = test.images / np.float32(255)
        self.references = [
            self.axes.transform(classifier(x)[0]) for x in (images, val.images / np.float32(255))
        ]
        self.resampled = [
            self._places(f"reference {number}", len(reference))
            for number, reference in enumerate(self.references)
        ]
        self.reference_distances = self.distances(images)
        _, classes = classifier(data.test.images / np.float32(255))
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
        right = None if labels is None else 100 * float(np.mean(classes == labels))
        ratio = np.median(self.distances(images)) / np.median(self.reference_distances)
        test, validation = (frechet_distance(features, x) for x in self.references)
        return {
            "images": name,
            "FID": test,
            "FID ±": 1.96 * float(self.draws[name][0].std(ddof=1)),
            "FID to validation": validation,
            "class as asked (%)": right,
            "distance to train": float(ratio),
        }

    def told_apart(self, first, second, column="FID"):
        """Whether two rows' FID (or "FID to validation") differ by more than chance: by 1.96
        standard deviations of their difference over resamples, 5 % of the time by luck."""
        which = ("FID", "FID to validation").index(column)
        draws = self.draws[first["images"]][which] - self.draws[second["images"]][which]
        return bool(abs(first[column] - second[column]) > 1.96 * draws.std(ddof=1))
