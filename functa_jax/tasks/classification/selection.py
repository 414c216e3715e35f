"""Classifiers of one kind of features: their settings chosen, trained, and judged alike.

All are judged on images that they have not learnt from: those of validation, if there are enough to
tell classifiers apart, else the folds of a cross-validation on train and validation together. More
images right is better, and of equals the one with the lower log-loss. What is judged by
cross-validation is trained once more, on all of these images, for the test.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from functa_jax.evaluation import classification, reconstruction
from functa_jax.tasks.classification import features
from functa_jax.training.exporter import Augmentation
from groundfloor import seeds
from groundfloor.runs import Progress

ENOUGH = 1000  # images of validation: at 98 % right, a standard error of 0.4 %
SHALLOW = ("logistic regression", "SVM")


class Entry(NamedTuple):
    """A trained classifier: predict(features of one split) -> classes (n,).

    accuracy in [0, 1] and log-loss on images it had not seen; rows: training examples; ends: the
    settings that were chosen at an end of what was tried.
    """

    kind: features.Features
    name: str
    settings: str
    rows: int
    accuracy: float
    loss: float
    seconds: float
    ends: list
    predict: Callable


def best(entries):
    """The entry with the highest accuracy, of equals with the lowest log-loss; None of none."""
    return max(entries, key=lambda entry: (entry.accuracy, -entry.loss), default=None)


class Labelled:
    """Images whose labels may be looked at, train and then validation, and how they are shared out.

    images, labels: of both; splits: [(rows to learn from, rows to judge by)]; final: rows to learn
    from for the test; folded: whether that is more than what was judged.
    """

    def __init__(self, data, seed):
        self.images = np.concatenate([data.train.values, data.val.values])
        self.labels = np.concatenate([data.train.labels, data.val.labels])
        self.train, self.classes = len(data.train), np.arange(data.num_classes)
        everything = np.arange(len(self.labels))
        self.folded = len(data.val) < ENOUGH
        if self.folded:
            self.splits, self.final = classification.folds(self.labels, seed), everything
        else:
            self.final = everything[: self.train]
            self.splits = [(self.final, everything[self.train :])]

    def how(self):
        """How choices are made, in words."""
        held = len(self.labels) - self.train
        if not self.folded:
            return f"on {held:,} validation images"
        return (
            f"by {len(self.splits)}-fold cross-validation on the {len(self.labels):,} images of "
            f"train and validation, as {held:,} of validation are too few"
        )

    def features(self, kind):
        """Features of all images, without augmented copies."""
        return np.concatenate([kind.train[: self.train], kind.val])

    def copies(self, kind, rows):
        """(features of augmented copies of the images `rows`, their labels)."""
        image = np.arange(self.train, len(kind.train)) % self.train
        kept = np.isin(image, rows)
        return kind.train[self.train :][kept], self.labels[image[kept]]

    def judged(self, x, train):
        """(accuracy, log-loss, the last model) of train(rows), a model that gives scores
        (n, classes) of features, on all that is held out of features x."""
        scores, labels = [], []
        for seen, held in self.splits:
            model = train(seen)
            scores.append(model(x[held]))
            labels.append(self.labels[held])
        scores, labels = np.concatenate(scores), np.concatenate(labels)
        accuracy = float(np.mean(scores.argmax(axis=1) == labels))
        return accuracy, classification.log_loss(np.float64(scores), labels), model


def shallow(config, labelled, kind, name):
    """The best of the settings that classification.GRIDS has for `name`, as an Entry.

    They are chosen by cross-validation on what may be learnt from, without augmented copies.
    """
    began = time.monotonic()
    x, y, final = reconstruction.as_rows(labelled.features(kind)), labelled.labels, labelled.final
    choice = classification.choose(x[final], y[final], config.rows, config.seed, (name,))
    candidate = choice.chosen.candidate

    def train(rows):
        model = choice.model
        if labelled.folded:
            few = classification.subset(x[rows], y[rows], config.rows, config.seed)
            model = classification.fitted(candidate.model(x.shape[1]), *few)
        return lambda x: classification.scores(model, x, labelled.classes)

    accuracy, loss, _ = labelled.judged(x, train)
    return Entry(
        kind,
        name,
        str(candidate).removeprefix(f"{name}, "),
        choice.rows,
        accuracy,
        loss,
        time.monotonic() - began,
        candidate.at_end(),
        lambda x: choice.model.predict(reconstruction.as_rows(x)),
    )


def network(config, material, labelled, kind, name):
    """The network `name`, with the best of the settings to try, as an Entry."""
    from functa_jax.tasks.classification import training

    began = time.monotonic()
    untrained = training.fresh(_builder(config, kind, name, len(labelled.classes)), config.seed)
    tried, times = settings_of(config, kind), len(labelled.splits)
    total = config.steps * (times + labelled.folded)
    total += (len(tried) > 1) * len(tried) * times * config.search_steps
    x = labelled.features(kind)
    with Progress(total, "step") as progress:

        def advanced(count, loss):
            progress.advance(count, **{name: f"loss {loss:.3f}"})

        fit = partial(_fit, config, material, labelled, kind, untrained, advanced)
        setting = tried[0]
        if len(tried) > 1:
            judged = {s: labelled.judged(x, partial(fit, s, config.search_steps)) for s in tried}
            setting = max(tried, key=lambda s: (judged[s][0], -judged[s][1]))
        accuracy, loss, logits = labelled.judged(x, partial(fit, setting, config.steps))
        if labelled.folded:
            logits = fit(setting, config.steps, labelled.final)
    normalise, mixup = setting
    ends = ["mixup"] * (len(config.mixup) > 1 and mixup == max(config.mixup))
    return Entry(
        kind,
        name,
        f"{normalise}, mixup {mixup:g}",
        len(labelled.final) + len(labelled.copies(kind, labelled.final)[1]),
        accuracy,
        loss,
        time.monotonic() - began,
        ends,
        lambda x: logits(x).argmax(axis=1),
    )


def _builder(config, kind, name, classes):
    """A function of rngs that makes the network `name` for features of a kind."""
    from functa_jax.tasks.classification.networks import MLP, ConvNet, Transformer

    shape = kind.test.shape[1:]

    def build(rngs):
        if name == "MLP":
            return MLP(kind.numbers, classes, config.mlp_width, config.mlp_depth, rngs=rngs)
        if name == "transformer":
            sizes = config.width, config.blocks, config.heads
            return Transformer(shape, classes, *sizes, rngs=rngs)
        return ConvNet(shape, classes, config.channels, rngs=rngs)

    return build


def settings_of(config, kind):
    """[(normalisation, mixup)] to try; with a single channel both normalisations are the same."""
    normalise = config.normalise[: 1 if kind.test.shape[-1] == 1 else None]
    return list(itertools.product(normalise, config.mixup))


def _fit(config, material, labelled, kind, untrained, advanced, setting, steps, rows):
    """A function features (n, ...) -> logits (n, classes), learnt from the images `rows`."""
    from functa_jax.tasks.classification import training

    normalise, mixup = setting
    seen, labels = labelled.features(kind)[rows], labelled.labels[rows]
    copies, of_copies = labelled.copies(kind, rows)
    x, y = np.concatenate([seen, copies]), np.append(labels, of_copies)
    mean, std = features.scales(x, normalise)

    def prepared(x):
        return np.float32((x - mean) / std)

    x, refresh = prepared(x), None
    if kind.stream:
        flip, pad = config.flip, config.pad
        if not config.augment:  # as the functaset's copies
            copies_by = material.functaset.metadata.get("augmentation", {})
            flip, pad = copies_by.get("flip"), copies_by.get("pad")
        seed = seeds.fold(config.seed, "augmentation")
        augmentation = Augmentation.of(material.data, flip, pad, seed=seed)
        alike = material.copies and not len(copies)
        if alike:  # as among latents, one example in 1 + copies is an image itself
            x, y = x[:: material.copies], y[:: material.copies]
        refresh = features.Stream(
            labelled.images[rows],
            lambda images: prepared(kind.of(images)),
            augmentation,
            first=len(x),
            rows=kind.stream,
        )
        slots = prepared(seen)
        if alike:
            slots = np.concatenate([refresh(number)[1] for number in range(refresh.blocks)])
        x, y = np.concatenate([x, slots]), np.append(y, labels)
    cells = kind.name == "latents" and kind.test.ndim == 4
    recipe = training.Recipe(
        steps=steps,
        rate=config.rate,
        decay=config.decay,
        smoothing=config.smoothing,
        ema=config.ema,
        shares=training.mixing_shares(mixup),
        noise=config.noise,
        drop=config.drop * cells,
    )
    trained = training.train(
        untrained,
        recipe,
        x,
        y,
        classes=len(labelled.classes),
        batch=config.batch,
        seed=config.seed,
        refresh=refresh,
        advanced=advanced,
    )
    return lambda x: trained.outputs(prepared(x))
