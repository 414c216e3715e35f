"""Numbers that stand for images, the functa's latents or PCA's, and samples of their priors."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf

from functa_jax.evaluation import reconstruction
from functa_jax.tasks.prior.diffusion import train_prior

STEPS = 50  # of the samplers
FEW_STEPS = (5, 10)  # of rows that show what fewer cost


class Code(NamedTuple):
    """Numbers that stand for images.

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


class Samples(NamedTuple):
    """Samples of a prior with the guidance that is best on validation, and their row."""

    guidance: float
    numbers: np.ndarray
    row: dict


def codes_of(material):
    """The functa's Code, and PCA's if PCA can have as many numbers."""
    data, functaset, functa = material.data, material.unaugmented, material.functa

    def decode(latents):
        return np.clip(functa.decode(latents), 0, 1)

    splits = [getattr(functaset, split) for split in ("train", "val", "test")]
    latents = [split.latents.astype(np.float32) for split in splits]
    codes = [Code("functa", *latents, splits[0].labels, decode, "prior.npz")]
    pca = reconstruction.pca(data.train.values, functa.config.numbers, material.folder)
    if pca is not None:
        shape = data.train.values.shape[1:]

        def rebuild(scores):
            return np.clip(pca.inverse_transform(scores), 0, 1).reshape(-1, *shape)

        pixels = [
            reconstruction.pixel_rows(getattr(data, s).values) for s in ("train", "val", "test")
        ]
        scores = [pca.transform(rows).astype(np.float32) for rows in pixels]
        codes.append(Code("PCA", *scores, data.train.labels, rebuild, "prior_pca.npz"))
    return codes


def prior_of(code, material, config):
    """The Prior of a code: that of an earlier run of the same settings, else trained now."""
    return train_prior(
        code.train,
        code.labels,
        material.data.num_classes,
        config.prior,
        config.seed,
        checkpoint=material.functa.fit_hash,
        validation=(code.val, material.data.val.labels),
        path=material.path(code.file),
    )


def gaussian_rows(code, judge, classes, random):
    """Rows: samples of a Gaussian fitted to all train codes, and of one for each class, if there
    are classes.

    classes (n,): those to draw; random: a NumPy generator.
    """
    flat = reconstruction.as_rows(code.train).astype(np.float64)

    def normal(rows, count):
        fitted = LedoitWolf().fit(rows)
        return random.multivariate_normal(
            fitted.location_, fitted.covariance_, count, method="eigh"
        )

    def judged(name, samples, labels=None):
        images = code.decode(samples.reshape(-1, *code.train.shape[1:]).astype(np.float32))
        return judge.row(f"{code.name}, {name}", images, labels)

    rows = [judged("one Gaussian", normal(flat, len(classes)))]
    if not judge.labelled:
        return rows
    by_class = np.empty((len(classes), flat.shape[1]))
    for label in np.unique(classes):
        own = flat[code.labels == label]
        count = np.sum(classes == label)
        by_class[classes == label] = normal(own, count) if len(own) > 1 else own
    return [*rows, judged("a Gaussian per class", by_class, classes)]


def diffusion_rows(code, prior, judge, classes, config):
    """(Samples of the best guidance, rows: one by guidance, and with the best DDPM and DDIM in few
    steps). Without classes there is no guidance."""

    def draw(guidance, sampler, steps=STEPS):
        numbers = prior.sample(len(classes), classes, guidance, steps, config.seed, sampler)
        name = f"{code.name}, diffusion, {sampler.upper()}"
        name += f", guidance {guidance:g}" if judge.labelled else ""
        name += f", {steps} steps" if steps != STEPS else ""
        return Samples(guidance, numbers, judge.row(name, code.decode(numbers), classes))

    guidances = config.guidance if judge.labelled else (0.0,)
    drawn = [draw(guidance, "ddim") for guidance in guidances]
    best = min(drawn, key=lambda samples: samples.row["FID to validation"])
    others = [draw(best.guidance, "ddpm"), *(draw(best.guidance, "ddim", n) for n in FEW_STEPS)]
    return best, [samples.row for samples in (*drawn, *others)]
