"""Interpolation: what lies between two images, in latent space and in the space of pixels.

Between pixels there is a cross-fade, two ghosts at once. Between latents there is one picture at
each point, as far as the straight line between two latents stays where latents of images are. Two
ways to stay there: a great circle, after the latents were made N(0, 1) (a sample of many normal
numbers has nearly always the same length, and the middle of a straight line is shorter), and, if
generate left a diffusion prior, the same between the noises that its DDIM makes the images from.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from functa_jax.evaluation import reconstruction
from functa_jax.images import signals
from functa_jax.images.film import animate
from functa_jax.tasks import drawing, task
from functa_jax.tasks.restoration.estimates import Models
from groundfloor import checks, cli, seeds
from groundfloor.checks import Count, Interval
from groundfloor.errors import UserError

CLASSIFIER_ROWS = 10_000
MOST_INPUTS, COMPONENTS = 4096, 256  # of the classifier; more are turned into so many of PCA
MOST_NUMBERS = 2**25  # of all pictures on all ways of one kind: 128 MiB


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """Between which images, in how many steps."""

    count: Count = 100
    """Pairs of test images, each of two classes, for the numbers, at most."""
    shown: Count = 4
    """Pairs in the pictures, at most."""
    frames: Annotated[int, Interval(3, 999)] = 17
    """Pictures on the way, both ends included; an odd number has one in the middle."""

    def __post_init__(self):
        super().__post_init__()
        checks.require(self.frames % 2, "frames", self.frames, "give an odd number")


def main(config):
    """Walk, measure, draw; returns the report."""
    material = task.load(config)
    task.require_common_points(material.data)
    test, latents = material.data.test, material.functaset.test.latents.astype(np.float32)
    random = np.random.default_rng(seeds.fold(config.seed, "pairs"))
    most = max(config.shown, MOST_NUMBERS // (config.frames * test.values[0].size))
    ends = pairs(test.labels, min(config.count, most), random)
    models = Models.of(material)
    noun = material.data.noun
    print(f"interpolating between {len(ends)} pairs of test {noun}s", flush=True)
    pixels = reconstruction.pixel_rows(test.values[ends.ravel()]).reshape(*ends.shape, -1)
    ways = _ways(models, pixels, latents[ends])
    shape = (len(ends), *test.values.shape[1:])

    places = np.linspace(0, 1, config.frames)
    paths = {}
    for name, at in ways.items():
        frames = [np.clip(at(t).reshape(shape), 0, 1) for t in places]
        paths[name] = np.stack(frames, axis=1).astype(np.float32)
    rows, accuracy = _rows(material, paths, ends, config.seed)

    figures, shown = [], range(min(config.shown, len(ends)))
    few = task.spaced(config.frames, 9 if material.functa.of_images else 5)
    for number in shown:
        strips = {name: path[number, few] for name, path in paths.items()}
        figures += drawing.draw(material, material.path(f"interpolate_{number}.png"), strips)
    films = {
        name: drawing.films(material.functa, path[: len(shown)]) for name, path in paths.items()
    }
    if all(film is not None for film in films.values()):
        animate(material.path("interpolate.gif"), films)
        figures.append("interpolate.gif")

    remarks = [
        f"Means over {len(ends)} pairs of test {noun}s ({config.count} asked), {config.frames} "
        f"pictures each, clipped to [0, 1]; one seed ({config.seed}). neighbours, largest step: "
        "PSNR between one picture and the next, mean and least on the way. to train: root mean "
        f"squared distance of the middle to the nearest training {noun}, to be set beside that of "
        f"test {noun}s; blur lowers it."
    ]
    if any("sure, %" in row for row in rows):
        right = f"judged by nobody, as there are no validation {noun}s"
        if accuracy is not None:
            right = f"right on {100 * accuracy:.1f} % of validation"
        remarks.append(
            f"sure, of an end: the probability that a classifier of pixels, {right}, gives the "
            "likeliest class of the middle, and how often that is the class of an end."
        )
    remarks += models.remarks()
    return task.report(material, "interpolate", config, rows, figures, remarks)


def pairs(labels, count, rng):
    """At most `count` pairs (m, 2) of rows with different labels (any, if all labels are the same,
    such as -1), no row twice."""
    order = rng.permutation(len(labels))
    drawn = order[: len(order) // 2 * 2].reshape(-1, 2)
    if len(np.unique(labels)) > 1:
        drawn = drawn[labels[drawn[:, 0]] != labels[drawn[:, 1]]]
    if not len(drawn):
        raise UserError(f"no pairs are to be had of {len(labels)} in test; try another --seed")
    return drawn[:count]


def linear(a, b, t):
    """The point at t in [0, 1] of the straight line from a to b."""
    return (1 - t) * a + t * b


def spherical(a, b, t):
    """Rows of a and b (n, L) rotated into each other: Shoemake (1985), "Animating rotation".

    Between rows of one length all have that length. A straight line where they are parallel.
    """
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.maximum(lengths, 1e-12)
    angle = np.arccos(np.clip(cosine, -1, 1))[:, None]
    sine = np.sin(angle)
    safe = np.where(sine > 1e-4, sine, 1)
    turned = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / safe
    return np.where(sine > 1e-4, turned, linear(a, b, t))


def _ways(models, pixels, latents):
    """{name: function of t in [0, 1] that gives the pictures at t} from ends of m pairs.

    pixels (m, 2, d) in [0, 1], latents (m, 2, *latent_shape).
    """
    functa, gaussian, pca, prior = models[:4]
    ends, shape = np.moveaxis(latents, 1, 0), functa.config.latent_shape
    pixels = np.moveaxis(pixels, 1, 0)
    what = "pixels" if functa.of_images else "values"
    ways = {f"{what}, cross-fade": lambda t: linear(*pixels, t)}
    if pca is not None:
        coefficients = [pca.transform(rows) for rows in pixels]
        ways["PCA"] = lambda t: pca.inverse_transform(linear(*coefficients, t))
    white = [gaussian.whiten(z) for z in ends]
    ways["latents, linear"] = lambda t: functa.decode(linear(*ends, t))
    ways["latents, spherical"] = lambda t: functa.decode(
        gaussian.colour(spherical(*white, t), shape)
    )
    if prior is not None:
        noises = [reconstruction.as_rows(prior.encode_ddim(z)) for z in ends]
        ways["diffusion prior"] = lambda t: functa.decode(
            prior.decode_ddim(spherical(*noises, t).reshape(-1, *shape))
        )
    return ways


def _rows(material, paths, ends, seed):
    """(rows of the table, accuracy of the classifier on validation or None)."""
    data = material.data
    train = reconstruction.pixel_rows(data.train.values)
    near = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)

    def distance(rows):
        return float((near.kneighbors(rows)[0] / np.sqrt(train.shape[1])).mean())

    classifier, accuracy = None, None
    if data.num_classes and len(np.unique(data.train.labels)) > 1:
        classifier, accuracy = _classifier(data, train, seed)

    def judged(rows, labels):
        if classifier is None:
            return {}
        chances = classifier.predict_proba(rows)
        likeliest = classifier.classes_[chances.argmax(axis=1)][:, None]
        right = (likeliest == labels).any(axis=1).mean()
        return {"sure, %": float(100 * chances.max(axis=1).mean()), "of an end, %": 100 * right}

    rows = []
    for name, path in paths.items():
        changes = (path[:, 1:] - path[:, :-1]).reshape(len(path), path.shape[1] - 1, -1)
        dB = signals.psnr((changes**2).mean(2))
        middle = reconstruction.as_rows(path[:, path.shape[1] // 2])
        row = {"between": name, "neighbours, dB": float(dB.mean())}
        row |= {"largest step, dB": float(dB.min(axis=1).mean()), "to train": distance(middle)}
        rows.append(row | judged(middle, data.test.labels[ends]))
    images, labels = data.test.values[ends[:, 0]], data.test.labels[ends[:, :1]]
    pixels = reconstruction.pixel_rows(images)
    last = {"between": f"test {data.noun}s themselves", "to train": distance(pixels)}
    return [*rows, last | judged(pixels, labels)], accuracy


def _classifier(data, train, seed):
    """A classifier of pixels with probabilities, and its accuracy on validation, None without."""
    random = np.random.default_rng(seeds.fold(seed, "classifier's rows"))
    rows = random.permutation(len(train))[:CLASSIFIER_ROWS]
    labels = data.train.labels[rows]
    counts = np.unique(labels, return_counts=True)[1]
    # scikit-learn stops early on a tenth of the rows, in which it wants every class.
    early = counts.min() > 1 and len(rows) // 10 >= len(counts)
    state = seeds.fold(seed, "classifier") % 2**31
    model = MLPClassifier((128,), early_stopping=early, random_state=state, max_iter=100)
    if train.shape[1] > MOST_INPUTS:
        few = PCA(min(COMPONENTS, *train[rows].shape), random_state=state)
        model = make_pipeline(few, model)
    model.fit(train[rows], labels)
    if not len(data.val):
        return model, None
    return model, float(model.score(reconstruction.pixel_rows(data.val.values), data.val.labels))


if __name__ == "__main__":
    cli.run(main, Config)
