"""The classifier by whose features generated images are judged.

Images without classes are put in clusters first, and it learns these, as Caron et al. 2018 begin.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from sklearn.cluster import KMeans

from functa_jax.evaluation import reconstruction
from functa_jax.images.signals import to_float
from functa_jax.tasks.classification import training
from functa_jax.tasks.classification.networks import halved, patches
from groundfloor import seeds
from groundfloor.runs import Progress

FEATURES = 64
CLUSTERS = 10  # where images have no classes
RATE = 2e-3


class ConvNet(nnx.Module):
    """Two 3x3 convolutions, each with halving, and two dense layers; images (B, h, w, C)."""

    def __init__(self, resolution, channels, num_classes, *, rngs):
        sides = [side // 4 for side in resolution]
        self.first = nnx.Linear(9 * channels, 24, rngs=rngs)
        self.second = nnx.Linear(9 * 24, 48, rngs=rngs)
        self.third = nnx.Linear(48 * sides[0] * sides[1], FEATURES, rngs=rngs)
        self.last = nnx.Linear(FEATURES, num_classes, rngs=rngs)

    def features(self, images):
        """(B, FEATURES), before the last layer."""
        h = images
        for layer in (self.first, self.second):
            h = halved(nnx.relu(layer(patches(h))))
        return jnp.tanh(self.third(h.reshape(len(h), -1)))

    def __call__(self, images, key=None):
        """Logits (B, classes)."""
        return self.last(self.features(images))

    def features_and_logits(self, images):
        """Both in one array (B, FEATURES + classes)."""
        features = self.features(images)
        return jnp.concatenate([features, self.last(features)], axis=1)


class Dense(nnx.Module):
    """Three dense layers, for values (B, N, C) of other functions than images."""

    def __init__(self, numbers, num_classes, *, rngs):
        self.first = nnx.Linear(numbers, 2 * FEATURES, rngs=rngs)
        self.second = nnx.Linear(2 * FEATURES, FEATURES, rngs=rngs)
        self.last = nnx.Linear(FEATURES, num_classes, rngs=rngs)

    def features(self, values):
        """(B, FEATURES), before the last layer."""
        return jnp.tanh(self.second(nnx.relu(self.first(values.reshape(len(values), -1) - 0.5))))

    def __call__(self, values, key=None):
        """Logits (B, classes)."""
        return self.last(self.features(values))

    def features_and_logits(self, values):
        """Both in one array (B, FEATURES + classes)."""
        features = self.features(values)
        return jnp.concatenate([features, self.last(features)], axis=1)


def train_classifier(train, num_classes, steps, seed):
    """A function of images (n, h, w, C), floats in [0, 1], that gives features and classes.

    It is a ConvNet trained on a Split, or dense layers on the values (n, N, C) of Functions:
    `steps` batches of 128, AdamW without decay. Of less than two classes: its classes are clusters.
    """
    shape, labels = train.values.shape[1:], train.labels
    if len(np.unique(labels)) < 2:
        labels = clusters(train.values, seed)
        num_classes = 1 + labels.max()
    key = jax.random.fold_in(jax.random.key(seed), seeds.number("judge's weights"))

    def build(rngs):
        if len(shape) == 3:
            return ConvNet(shape[:2], shape[2], num_classes, rngs=rngs)
        return Dense(math.prod(shape), num_classes, rngs=rngs)

    network = training.fresh(build, key)
    recipe = training.Recipe(steps, rate=RATE, decay=0.0, smoothing=0.0, ema=0.0)
    images = to_float(train.values)
    with Progress(steps, "classifier step") as progress:
        trained = training.train(
            network,
            recipe,
            images,
            labels,
            classes=num_classes,
            seed=seed,
            advanced=lambda count, loss: progress.advance(count, loss=f"{loss:.4f}"),
        )

    def classify(images):
        images = images.reshape(-1, *shape)  # values may come on their lattice
        outputs = trained.outputs(images, "features_and_logits")
        return outputs[:, :FEATURES], outputs[:, FEATURES:].argmax(axis=1)

    return classify


def clusters(values, seed):
    """The cluster int64 (n,) of each of images or values (n, ...): k-means on pixels."""
    rows = reconstruction.pixel_rows(values)
    state = seeds.fold(seed, "clusters") % 2**31
    means = KMeans(min(CLUSTERS, len(rows)), n_init=1, random_state=state).fit(rows)
    return means.labels_.astype(np.int64)
