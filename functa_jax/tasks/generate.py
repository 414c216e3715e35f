"""New images from a diffusion model of the latents, beside Gaussians and PCA.

    python -m functa_jax.tasks.generate --run runs/meta_train-digits

A prior (diffusion.py) learns the train latents of each class; the functa decodes its samples, at
any resolution. The table compares them with test images by a Fréchet distance (frechet.py says
what it is not) with a bootstrap interval, asks a classifier for their class, and tells how far they
are from the nearest train image, in units of what test images are: much below 1 is a copy.

Beside the diffusion stand bounds (train images, test images through the functa), Gaussians fitted
to all latents or to those of each class, and all of these, the diffusion trained alike, for a PCA
with as many numbers. Covariances are shrunk (Ledoit & Wolf 2004), as a class may be small. The file
prior.npz, beside the report, is trained once and serves inpaint, superresolve, denoise and
interpolate too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.generation.frechet import (
    FEATURES,
    RESAMPLES,
    Judge,
    nearest,
    train_classifier,
)
from functa_jax.tasks.prior.diffusion import PriorConfig, train_prior
from groundfloor import checks, cli, seeds
from groundfloor.checks import LARGEST, Count, Interval, NotNegative
from groundfloor.plots import as_rgb, figure

SCALES = (1, 4, 16)
SHOWN = 8
STEPS = 50  # of the samplers


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """Generate images from a prior on latents, and judge them."""

    prior: PriorConfig = field(default_factory=PriorConfig)
    """The prior and its training."""
    samples: Annotated[int, Interval(20, LARGEST)] = 2000
    """Images in each set that is judged; at most as many as there are test images."""
    guidance: tuple[NotNegative, ...] = (0.0, 0.5, 1.0, 2.0)
    """Guidance values to report; the figures show the best on validation."""
    classifier_steps: Count = 1000
    """Training steps of the classifier, batches of 128 images."""

    def __post_init__(self):
        checks.check(self)
        checks.require(self.guidance, "guidance", self.guidance, "needs at least one value")


class Code(NamedTuple):
    """Numbers that stand for images: the functa's latents, or PCA's.

    train, val, test: (n, ...) of the splits' images; labels: of train; decode: numbers -> images
    (n, h, w, C), floats in [0, 1]; file: of its prior.
    """

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    decode: Callable
    file: str


def main(config):
    """Train or load the priors, sample, judge, draw, report."""
    source = task.load(config)
    data, judged = source.data, f"nothing to judge samples of {source.data.name} by"
    task.require(data, judged, classes=2, val=2, test=2)
    if min(data.train.images.shape[1:3]) < 4:
        raise task.NotForThese(f"{judged}: its images are smaller than 4x4")
    count = min(config.samples, len(data.test))
    codes = _codes(source)
    priors = [_prior(source, config, code) for code in codes]
    if source.functa.config.grid is None:
        task.say_unused(config.prior, {"heads": "these latents are vectors, not grids"})
    print(f"training a classifier of {data.name}, by whose features images are judged", flush=True)
    classifier = train_classifier(
        data.train, data.num_classes, config.classifier_steps, config.seed
    )
    tested, held, taken = (
        _random(config, f"images of {name}").permutation(len(split))[:count]
        for name, split in (("test", data.test), ("val", data.val), ("train", data.train))
    )
    judge = Judge(classifier, data, data.test.take(tested), data.val.take(held), config.seed)

    shown = data.train.take(taken)
    rows = [judge.row("train images", as_floats(shown.images), shown.labels)]
    rows[0]["distance to train"] = None  # they are their own nearest
    # Classes are asked for in the proportions of train.
    asked = _random(config, "classes").choice(data.train.labels, count)
    chosen = []
    for code, prior in zip(codes, priors, strict=True):
        name = f"{code.name}, of test images"
        images = code.decode(code.test[tested])
        rows.append(judge.row(name, images, data.test.labels[tested], same=True))
        rows += _gaussians(code, judge, asked, _random(config, f"Gaussians of {code.name}"))
        made, found = _diffusion(code, prior, judge, asked, config)
        rows += found
        chosen.append(made)
    guidance, made, _ = chosen[0]

    names = [f"generate{part}.png" for part in ("", "_resolutions", "_neighbours", "_distances")]
    paths = [source.path(name) for name in names]
    _classes(paths[0], codes[0], priors[0], guidance, config.seed)
    _resolutions(paths[1], source.functa, made)
    _neighbours(paths[2], codes[0], judge, made)
    ratio = _distances(paths[3], codes[0], judge, made)
    remarks = _remarks(config, source, judge, priors[0], chosen, rows, ratio, count)
    task.report(source, "generate", config, rows, names, remarks)


def _random(config, use):
    return np.random.default_rng(seeds.fold(config.seed, use))


# ---- what is compared ----


def _codes(source):
    """The functa's Code, and PCA's if PCA can have as many numbers."""
    data, functaset, functa = source.data, source.functaset, source.functa

    def decode(latents):
        return np.clip(functa.decode(latents), 0, 1)

    splits = [getattr(functaset, split) for split in ("train", "val", "test")]
    latents = [split.latents.astype(np.float32) for split in splits]
    codes = [Code("functa", *latents, splits[0].labels, decode, "prior.npz")]
    pca = reconstruction.pca(data.train.images, functa.config.numbers, source.folder)
    if pca is not None:
        shape = data.train.images.shape[1:]

        def rebuild(scores):
            return np.clip(pca.inverse_transform(scores), 0, 1).reshape(-1, *shape)

        pixels = [
            reconstruction.pixel_rows(getattr(data, s).images) for s in ("train", "val", "test")
        ]
        scores = [pca.transform(rows).astype(np.float32) for rows in pixels]
        codes.append(Code("PCA", *scores, data.train.labels, rebuild, "prior_pca.npz"))
    return codes


def _prior(source, config, code):
    """The Prior of a code: that of an earlier run of the same settings, else trained now."""
    data, path = source.data, source.path(code.file)
    return train_prior(
        code.train,
        code.labels,
        data.num_classes,
        config.prior,
        config.seed,
        checkpoint=source.functa.hash,
        validation=(code.val, data.val.labels),
        path=path,
    )


def _gaussians(code, judge, asked, random):
    """Rows: samples of a Gaussian fitted to all train codes, and of one for each class."""
    flat = reconstruction.as_rows(code.train).astype(np.float64)

    def normal(rows, count):
        fitted = LedoitWolf().fit(rows)
        return random.multivariate_normal(
            fitted.location_, fitted.covariance_, count, method="eigh"
        )

    def judged(name, samples, labels=None):
        images = code.decode(samples.reshape(-1, *code.train.shape[1:]).astype(np.float32))
        return judge.row(f"{code.name}, {name}", images, labels)

    by_class = np.empty((len(asked), flat.shape[1]))
    for label in np.unique(asked):
        rows = flat[code.labels == label]
        by_class[asked == label] = normal(rows, np.sum(asked == label)) if len(rows) > 1 else rows
    return [
        judged("one Gaussian", normal(flat, len(asked))),
        judged("a Gaussian per class", by_class, asked),
    ]


def _diffusion(code, prior, judge, asked, config):
    """((best guidance on validation, its samples, its row), rows: by guidance, and DDPM with the
    best)."""

    def draw(guidance, sampler):
        made = prior.sample(len(asked), asked, guidance, STEPS, config.seed, sampler)
        name = f"{code.name}, diffusion, {sampler.upper()}, guidance {guidance:g}"
        return made, judge.row(name, code.decode(made), asked)

    drawn = {w: draw(w, "ddim") for w in config.guidance}
    best = min(drawn, key=lambda w: drawn[w][1]["FID to validation"])
    rows = [row for _, row in drawn.values()] + [draw(best, "ddpm")[1]]
    return (best, *drawn[best]), rows


def as_floats(images):
    """uint8 images as float32 in [0, 1]."""
    return images / np.float32(255)


# ---- pictures ----


def _pictures(path, rows, names, size=0.62):
    """Rows of images (n, h, w, C), each a strip with its name at the left; size in inches."""
    room = 0.3 + 0.09 * max(map(len, names))  # inches for the names
    inches = (size * len(rows[0]) + room, size * len(rows))
    with figure(path, len(rows), size=inches, squeeze=False) as (_, axes):
        for ax, images, name in zip(axes[:, 0], rows, names, strict=True):
            gap = max(1, images.shape[2] // 8)
            colours = as_rgb(np.clip(images, 0, 1))
            spaced = np.pad(colours, [(0, 0), (0, 0), (0, gap), (0, 0)], constant_values=1)
            ax.imshow(np.concatenate(spaced, axis=1))
            ax.set(xticks=[], yticks=[], anchor="E")  # what is left over is for names
            ax.grid(False)
            ax.spines[:].set_visible(False)
            ax.set_ylabel(name, rotation=0, ha="right", va="center")


def _classes(path, code, prior, guidance, seed):
    """Samples of each class (of the first ten), with the guidance chosen."""
    classes = range(min(prior.num_classes, 10))
    labels = np.repeat(classes, 12)
    seed = seeds.fold(seed, "figure of classes")
    images = code.decode(prior.sample(len(labels), labels, guidance, STEPS, seed))
    _pictures(path, images.reshape(len(classes), 12, *images.shape[1:]), list(map(str, classes)))


def _resolutions(path, functa, made):
    """The same samples at the train images' resolution and above it."""
    height, width = functa.resolution
    shapes = [(height * scale, width * scale) for scale in SCALES]
    rows = [functa.decode(made[:SHOWN], shape) for shape in shapes]
    _pictures(path, rows, [f"{h} x {w}" for h, w in shapes], size=1.0)


def _neighbours(path, code, judge, made):
    """Samples, and the train images nearest to each in pixels and in latents."""
    images = code.decode(made[:SHOWN])
    _, by_pixels = nearest(judge.pixels, reconstruction.as_rows(images), 3)
    train = reconstruction.as_rows(code.train[: len(judge.pixels)])
    _, by_latents = nearest(train, reconstruction.as_rows(made[:SHOWN]), 3)
    originals = judge.pixels.reshape(-1, *images.shape[1:])
    rows = [images, *originals[by_pixels.T], *originals[by_latents.T]]
    kinds = [
        f"{place} in {space}"
        for space in ("pixels", "latents")
        for place in ("nearest", "2nd", "3rd")
    ]
    _pictures(path, rows, ["sample", *kinds], size=0.8)


def _distances(path, code, judge, made):
    """Histograms of distances to the nearest train image, of samples and of test images.

    Returns the ratio of their medians in latents (the one in pixels is in the table).
    """
    pairs = {
        "pixels, root mean square": (
            judge.distances(code.decode(made)),
            judge.reference_distances,
        ),
        "latents, root mean square": [
            nearest(reconstruction.as_rows(code.train), reconstruction.as_rows(rows))[0][:, 0]
            for rows in (made, code.test)
        ],
    }
    with figure(path, 1, 2, size=(7, 2.6)) as (_, axes):
        for ax, (name, (samples, test)) in zip(axes, pairs.items(), strict=True):
            bins = np.linspace(0, max(samples.max(), test.max()), 40)
            for values, label in ((samples, "samples"), (test, "test images")):
                ax.hist(values, bins, density=True, histtype="step", lw=1.5, label=label)
            ax.set(xlabel=f"distance to the nearest train image\n({name})", yticks=[])
            ax.legend(loc="upper left")
        axes[0].set_ylabel("density")
    samples, test = pairs["latents, root mean square"]
    return float(np.median(samples) / np.median(test))


def _remarks(config, source, judge, prior, chosen, rows, ratio, count):
    best = min(prior.history, key=lambda row: row[2])
    tested, held = map(len, judge.references)
    shown = chosen[0][2]
    guidances = " ".join(
        f"Guidance {guidance:g} has the lowest FID to validation of {row['images'].split(',')[0]}'s"
        + _alike("; not told apart from it: ", judge, row, rows, "FID to validation")
        + "."
        + " It is the largest tried." * (guidance == max(config.guidance) > 0)
        for guidance, _, row in chosen
    )
    return [
        f"FID: features of a ConvNet of ours, trained on the train images ({judge.accuracy:.2f} % "
        f"of test), not Inception's: not comparable with published FID. Of its {FEATURES} features "
        f"the first {judge.components} principal components are taken "
        f"({100 * judge.explained:.1f} % of their variance), one for each ten images.",
        f"{count:,} images a row, against {tested:,} of {len(source.data.test):,} test and "
        f"{held:,} of {len(source.data.val):,} validation images; fewer raise FID: compare within "
        "a column. The train images' row is the floor for new images; that of test images is what "
        "the code itself costs, as it is compared with the same images.",
        f"FID ±: 1.96 standard deviations over {RESAMPLES} bootstrap resamples of the images, "
        "those of the row and those of test; the classifier and the priors are not trained again. "
        f"One seed ({config.seed})."
        + _alike(f" By FID not told apart from {shown['images']}: ", judge, shown, rows, "FID"),
        f"{guidances} Figures show the functa's. {STEPS} sampling steps.",
        "Distance to train: median distance to the nearest train image in pixels, over that of "
        f"test images; in latents it is {ratio:.2f} for the samples shown. Much below 1: copies.",
        f"Prior on the functa's latents: validation loss {best[2]:.4f} at step {best[0]:,} of "
        f"{prior.config.prior_steps:,}, whose weights were kept.",
    ]


def _alike(words, judge, row, rows, column):
    """`words` and the names of the rows that are not told apart from one; "" if there are none."""
    others = [other for other in rows if other is not row]
    if column == "FID to validation":  # of the same code, by guidance
        kind = row["images"].rpartition(" ")[0]
        others = [other for other in others if other["images"].rpartition(" ")[0] == kind]
    names = [o["images"] for o in others if not judge.told_apart(row, o, column)]
    return words + "; ".join(names) if names else ""


if __name__ == "__main__":
    cli.run(main, Config)
