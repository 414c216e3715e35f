"""Every way to fit what was seen of images (fitting.py), its settings chosen on validation images.

What the tasks inpaint, superresolve and denoise share: the same rows for latents and PCA, the same
PSNR, the same figure.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from common.errors import UserError
from common.plots import figure
from functa_jax import evaluate
from functa_jax.functa import Functa
from functa_jax.tasks import material
from functa_jax.tasks.fitting import Gaussian, course, pca_fit, refine, refine_by_prior

MOST_STEPS = 10  # of the inner loop, or as many as it was trained with
NOISES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


class Models(NamedTuple):
    """What can be fitted: a Functa, the Gaussian of its train latents, PCA with as many numbers
    (None if the image has no more), a diffusion.Prior (None if there is no file of one)."""

    functa: Functa
    gaussian: Gaussian
    pca: PCA | None
    prior: "Prior | None"  # noqa: F821 -- imported if there is one

    @classmethod
    def of(cls, about):
        """Those of a task's Material; UserError if its prior.npz belongs to another functa."""
        functa, train = about.functa, about.functaset.train.latents
        pca = evaluate.pca(about.data.train.images, functa.config.numbers, about.folder)
        return cls(functa, Gaussian.of(train), pca, find_prior(about))

    def remarks(self):
        """What a reader must know of rows that are missing."""
        missing = []
        if self.pca is None:
            missing.append("No PCA row: an image has no more numbers than a latent.")
        if self.prior is None:
            missing.append("No diffusion prior (prior.npz; functa_jax.tasks.generate makes it).")
        return missing


class Estimate(NamedTuple):
    """pictures (n, H, W, C) in [0, 1] of the test images, the dB on validation, what it chose."""

    pictures: np.ndarray
    val: float
    chosen: dict


def find_prior(about):
    """The diffusion.Prior beside the report of a task's Material, prior.npz, or None."""
    path = about.path("prior.npz")
    if not path.exists():
        return None
    from functa_jax.tasks.diffusion import load_prior

    prior = load_prior(path)
    if prior.checkpoint != about.functa.hash:
        raise UserError(f"{path} was made for another functa; make it again or delete it")
    return prior


def estimates(models, val, test, measure):
    """{method: Estimate} of all models for what was Seen of validation and test images.

    measure(pictures): how good pictures of the validation images are, in dB.
    """
    functa, gaussian, pca, prior = models

    def shown(latents):
        return np.clip(functa.decode(latents), 0, 1)

    most = max(MOST_STEPS, functa.inner_steps)
    courses = {seen: course(functa, seen, most) for seen in (val, test)}
    k, dB = best(range(1, most + 1), lambda k: measure(shown(courses[val][:, k])))
    found = {"latents, inner loop": Estimate(shown(courses[test][:, k]), dB, {"steps": k})}

    def further(seen, noise):
        return shown(refine(functa, seen, gaussian, noise, start=courses[seen][:, k]))

    @cache
    def probable(seen, noise):
        return refine(functa, seen, gaussian, noise)

    def by_prior(seen, noise):
        start = probable(seen, found["latents, Gaussian prior"].chosen["noise"])
        return shown(refine_by_prior(functa, seen, start, prior, noise))

    def by_pca(seen, noise):
        return np.clip(pca_fit(pca, seen, noise), 0, 1)

    def below(name):
        """The noise that a method chose and the two below it, to spare time."""
        return NOISES[: NOISES.index(found[name].chosen["noise"]) + 1][-3:]

    methods = {
        "latents, more steps (Adam)": (further, lambda: (0.0,)),
        "latents, Gaussian prior": (lambda *args: shown(probable(*args)), lambda: NOISES),
        "latents, diffusion prior": (prior and by_prior, lambda: below("latents, Gaussian prior")),
        "PCA, Gaussian prior": (pca and by_pca, lambda: NOISES),
    }
    for name, (method, candidates) in methods.items():
        if method:
            noises = candidates()
            noise, dB = best(noises, lambda noise, method=method: measure(method(val, noise)))
            chosen = {"noise": noise} if len(noises) > 1 else {}
            found[name] = Estimate(method(test, noise), dB, chosen)
    return found


def best(candidates, measure):
    """(the candidate that measures most, its measure)."""
    measured = [(candidate, measure(candidate)) for candidate in candidates]
    return max(measured, key=lambda pair: pair[1])


def said(chosen):
    """{case: {method: {setting: value}}} as text, methods without settings left out."""
    parts = {}
    for name, case in chosen.items():
        for method, settings in case.items():
            words = " ".join(f"{key} {material.text(value)}" for key, value in settings.items())
            if words:
                parts.setdefault(method, []).append(f"{name}: {words}")
    return "; ".join(f"{method} ({', '.join(words)})" for method, words in parts.items())


def psnr(pictures, originals, where=None):
    """Mean of per-image PSNR in dB, over the pixels where `where` (n, h, w) is true, or all."""
    error = ((pictures - originals) ** 2).mean(axis=-1)
    where = np.ones(error.shape, bool) if where is None else where
    return float(evaluate.mean_psnr((error * where).sum((1, 2)) / where.sum((1, 2))))


def spaced(split, count):
    """At most `count` images of a split, evenly spaced, as float32 (n, h, w, C) in [0, 1]."""
    if not len(split):
        raise UserError("no validation or no test images: nothing to choose or to report on")
    chosen = np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)
    return split.images[chosen].astype(np.float32) / 255


def gallery(path, rows):
    """A picture of rows {name: pictures (m, h, w, C)}; NaN pixels, hidden ones, are blue."""
    count = max(map(len, rows.values()))
    size = (0.8 * count + 1.6, 0.84 * len(rows))
    with figure(path, len(rows), count, size=size, squeeze=False) as (_, axes):
        for line, (name, pictures) in zip(axes, rows.items(), strict=True):
            for ax, picture in zip(line, pictures, strict=True):
                shown = np.broadcast_to(np.clip(picture, 0, 1), (*picture.shape[:2], 3))
                hidden = np.isnan(shown).any(axis=-1, keepdims=True)
                ax.imshow(np.where(hidden, (0.25, 0.4, 0.75), shown))
            for ax in line:
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
                for spine in ax.spines.values():
                    spine.set_visible(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
