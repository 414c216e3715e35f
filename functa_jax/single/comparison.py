"""Single-image networks beside shared weights with latents, and beside PCA.

On the same test images: what do the same numbers per image buy, and what the same time? A
network of one image stores all its weights; a functa stores a latent and shares the rest. Shapes
and rates of the networks are chosen on validation images. Times are seconds per image, all images
together on the same devices, after compilation.
"""

import timeit
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.images import signals
from functa_jax.single import fit_grid, sirens
from functa_jax.training.loop import matmul_rate

FACTORS = (1, 1.5, 2, 3, 4, 8)  # sizes of the networks, in the functa's numbers per image
RATES = (3e-3, 1e-2, 3e-2)
STEPS_SHOWN = (1, 2, 3, 10)  # of the functa's inner loop
PICTURES = 8


@dataclass
class Comparison:
    """images: how many were compared. rows: of the table. pictures: {name: images (m, h, w, C)}.
    courses: [{"method", "numbers", "course": [(steps, seconds, dB)]}]."""

    images: int
    rows: list = field(default_factory=list)
    courses: list = field(default_factory=list)
    pictures: dict = field(default_factory=dict)

    def add(self, method, compared, numbers, psnr, seconds, **more):
        """A row: float32 numbers of each image, dB, seconds per image."""
        row = {"method": method, "compared": compared, "numbers": int(numbers)}
        row |= {"bytes": 4 * int(numbers), "psnr": float(psnr), "seconds_per_image": float(seconds)}
        self.rows.append(row | more)

    def draw(self, method, numbers, course):
        """A line of the figure: (steps, seconds, dB), each (R,)."""
        points = [[int(k), float(s), float(p)] for k, s, p in zip(*course, strict=True)]
        self.courses.append({"method": method, "numbers": int(numbers), "course": points})


class Task(NamedTuple):
    """The same for every network: images (n, h, w, C), floats, to choose on and to report on."""

    val: np.ndarray
    test: np.ndarray
    seed: int


def compare(functa, data, *, numbers, count, steps, w0, seed, folder=None):
    """The whole comparison on `count` test images, evenly spaced.

    functa: None leaves its rows and the equal time out; numbers: per image, if there is none;
    steps, w0: of the single-image networks; folder: where PCA is kept. Returns a Comparison.
    """
    count = min(count, len(data.val), len(data.test))
    images = _spaced(data.test, count)
    result = Comparison(count, pictures={"original": signals.to_float(images[:PICTURES])})
    task = Task(signals.to_float(_spaced(data.val, count)), signals.to_float(images), seed)
    if functa is not None:
        numbers = _functa(result, functa, images)
    _pca(result, data.train.images, images, numbers, folder)
    shapes = _sirens(result, task, shapes_below(numbers, images.shape[-1], w0), steps, numbers)
    if functa is not None and shapes:
        _equal_time(result, task, shapes, result.rows[0]["seconds_per_image"])
    return result


def seconds_of(shape, numbers, *, count, steps, w0):
    """How long the fits of `compare` on images of a shape (h, w, C) take, about."""
    height, width, channels = shape
    tried = [s for group in shapes_below(numbers, channels, w0) for s in group]
    flops = sum(s.step_flops(height * width) for s in tried) * count * steps
    fits = len(RATES) + 1  # of each shape: to choose on validation, then on test
    overhead = fit_grid.COMPILE_SECONDS + fits * steps * sirens.STEP_SECONDS
    return len(tried) * overhead + fits * flops / (0.4 * matmul_rate())


def _functa(result, functa, images):
    functa = replace(functa, lbfgs_steps=0)  # these rows and seconds are of the inner loop
    latents, errors = functa.course(images, max(*STEPS_SHOWN, functa.inner_steps))
    shown = sorted({*STEPS_SHOWN, functa.inner_steps})
    seconds = [_seconds(lambda k=k: functa.encode(images, k)) / len(images) for k in shown]
    psnr, place = reconstruction.mean_psnr(errors)[shown], shown.index(functa.inner_steps)
    numbers = latents[0, 0].size
    result.draw("functa", numbers, (shown, seconds, psnr))
    shared = 4 * sum(np.size(leaf) for leaf in jax.tree.leaves(functa.params))
    more = {"steps": functa.inner_steps, "shared_bytes": shared}
    result.add("functa", "shared weights", numbers, psnr[place], seconds[place], **more)
    name = f"functa\n{numbers} numbers"
    result.pictures[name] = functa.decode(latents[:PICTURES, functa.inner_steps])
    return numbers


def _pca(result, train_images, images, numbers, folder):
    whole = reconstruction.whole_pca(train_images, folder)
    for factor in (0.5, 1, 2, 4):
        count = max(1, int(factor * numbers))
        if count >= whole.n_components_:  # as many numbers as the image has
            break
        pca = reconstruction.first_components(whole, count)
        rows = reconstruction.pixel_rows(images)
        seconds = _seconds(lambda pca=pca, rows=rows: pca.transform(rows)) / len(images)
        shared = 4 * (pca.components_.size + pca.mean_.size)
        psnr, components = reconstruction.pca_psnr(pca, images), pca.n_components_
        result.add("PCA", "shared basis", components, psnr, seconds, shared_bytes=shared)
        if factor == 1:
            rebuilt = pca.inverse_transform(pca.transform(rows[:PICTURES]))
            pictures = rebuilt.reshape(result.pictures["original"].shape)
            result.pictures[f"PCA\n{numbers} numbers"] = pictures


def shapes_below(numbers, channels, w0):
    """Networks that compete at each factor: at most factor * numbers parameters.

    At factor 1, where shape matters most, there are two depths and two frequencies.
    """
    groups = []
    for factor in FACTORS:
        tried = ((2, w0), (2, w0 / 3), (3, w0), (3, w0 / 3)) if factor == 1 else ((3, w0),)
        widths = [(widest(factor * numbers, depth, channels), depth, w) for depth, w in tried]
        shapes = [sirens.Shape(width, depth, channels, w) for width, depth, w in widths if width]
        if shapes and (not groups or shapes[0] not in groups[-1]):
            groups.append(shapes)
    return groups


def widest(numbers, depth, channels):
    """Width of the largest SIREN of this depth with at most `numbers` parameters; 0 if none."""
    width = 0
    while sirens.Shape(width + 1, depth, channels).parameters <= numbers:
        width += 1
    return width


def _sirens(result, task, groups, steps, most):
    """Rows of the chosen networks, of which those of up to `most` numbers have as many; returns
    [(shape, seconds per image and step), ...]."""
    chosen = []
    for place, shapes in enumerate(groups):
        choice = max((choose(task, shape, steps) for shape in shapes), key=lambda c: c.val_psnr)
        fit = choice.fit(task, sirens.marks(steps))
        psnr, seconds = reconstruction.mean_psnr(fit.errors.T), fit.seconds / len(task.test)
        numbers = choice.shape.parameters
        compared = "equal numbers" if numbers <= most else "more numbers"
        result.add("SIREN", compared, numbers, psnr[-1], seconds, steps=steps, **choice.described())
        result.draw("SIREN", numbers, (fit.steps, seconds * fit.steps / steps, psnr))
        if place in (0, len(groups) - 1):
            result.pictures[f"SIREN\n{numbers} numbers"] = _pictures(choice.shape, fit, task)
        chosen.append((choice.shape, choice.seconds / len(task.val) / steps))
    return chosen


def _equal_time(result, task, shapes, budget):
    """The row of the best network, on validation, after as many steps as take `budget` s."""
    tried = [choose(task, shape, max(1, round(budget / per_step))) for shape, per_step in shapes]
    choice = max(tried, key=lambda c: c.val_psnr)
    fit = choice.fit(task)
    numbers, steps = choice.shape.parameters, choice.steps
    psnr, seconds = reconstruction.mean_psnr(fit.errors[-1]), fit.seconds / len(task.test)
    result.add("SIREN", "equal time", numbers, psnr, seconds, steps=steps, **choice.described())
    name = f"SIREN, {numbers}\nas fast: {steps} step{'s' * (steps != 1)}"
    result.pictures[name] = _pictures(choice.shape, fit, task)


class Choice(NamedTuple):
    """A shape with the rate that is best on validation images after `steps`, and the seconds that
    the fit of all of them took."""

    shape: sirens.Shape
    rate: float
    steps: int
    val_psnr: float
    seconds: float

    def described(self):
        """For a row of the table."""
        shape = self.shape
        return {"width": shape.width, "depth": shape.depth, "w0": shape.w0, "rate": self.rate}

    def fit(self, task, records=()):
        """Fit the test images."""
        settings = {"steps": self.steps, "rates": self.rate, "records": records}
        return sirens.fit(self.shape, task.test, np.full(len(task.test), task.seed), **settings)


def choose(task, shape, steps):
    """The rate of RATES whose fits of the validation images are best after `steps`."""
    seeds, choices = np.full(len(task.val), task.seed), []
    for rate in RATES:
        fit = sirens.fit(shape, task.val, seeds, steps=steps, rates=rate)
        psnr = float(reconstruction.mean_psnr(fit.errors[-1]))
        choices.append(Choice(shape, rate, steps, psnr, fit.seconds))
    return max(choices, key=lambda choice: choice.val_psnr)


def reached(rows):
    """How many numbers the smallest single-image network has that is as good as the functa, or
    None."""
    functa = next((row for row in rows if row["method"] == "functa"), None)
    sirens = [row for row in rows if row["compared"] in ("equal numbers", "more numbers")]
    if functa is None:
        return None
    return min((s["numbers"] for s in sirens if s["psnr"] >= functa["psnr"]), default=None)


def _pictures(shape, fit, task):
    height, width = task.test.shape[1:3]
    return sirens.pictures(shape, fit.weights[:PICTURES], height, width)


def _spaced(split, count):
    return split.images[np.linspace(0, len(split) - 1, count).astype(int)]


def _seconds(function):
    """Median wall time of a call, in seconds, after one that compiles."""
    return float(np.median(timeit.repeat(function, function, number=1, repeat=5)))
