"""Every way to restore images from what was seen of them, with its settings chosen on validation.

Latents (fitting.py), and PCA as their linear rival (wiener.py).
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from functa_jax.evaluation import reconstruction
from functa_jax.functa import Functa
from functa_jax.tasks.restoration import wiener
from functa_jax.tasks.restoration.choice import WIDER, best
from functa_jax.tasks.restoration.fitting import Gaussian, course, refine, refine_by_prior
from groundfloor.errors import UserError

MOST_STEPS = 10  # of the inner loop, or as many as it was trained with
NOISES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


class Models(NamedTuple):
    """What can be fitted: a Functa, the Gaussian of its train latents, PCA with as many numbers
    (None if the image has no more), a diffusion.Prior of each (None if there is no file of one),
    and the Normal of all pixels (None if it was not asked for)."""

    functa: Functa
    gaussian: Gaussian
    pca: PCA | None
    prior: "Prior | None"  # noqa: F821 -- imported if there is one
    pca_prior: "Prior | None" = None  # noqa: F821
    normal: wiener.Normal | None = None
    too_large: bool = False  # images, for the covariance of all pixels

    @classmethod
    def of(cls, material, with_pca=True):
        """Those of a task's Material; UserError if prior.npz is of another fit."""
        functa, train = material.functa, material.unaugmented.train.latents
        pca = None
        if with_pca:
            images = material.data.train.values
            pca = reconstruction.pca(images, functa.config.numbers, material.folder)
        return cls(functa, Gaussian.of(train), pca, find_prior(material, "prior.npz"))

    @classmethod
    def with_rivals(cls, material):
        """As `of`, with all that stands beside latents where images are to be restored."""
        images = material.data.train.images
        if images[0].size > reconstruction.MOST_NUMBERS:
            return cls.of(material, with_pca=False)._replace(too_large=True)
        models = cls.of(material)
        prior = None if models.pca is None else find_prior(material, "prior_pca.npz")
        if prior is not None and (models.prior is None or models.prior.config != prior.config):
            prior = None  # of an earlier run of generate, or of one that was stopped between them
        return models._replace(pca_prior=prior, normal=wiener.Normal.of_images(images))

    def remarks(self):
        """What a reader must know of priors, and of rows that are missing."""
        remarks = []
        if self.normal is not None:
            remarks.append(
                "PCA, all components: images as one Gaussian, its covariance shrunk by OAS as that "
                "of latents is, their posterior mean in closed form (Wiener filter); no diffusion "
                "prior is trained for it."
            )
        if self.too_large:
            most = reconstruction.MOST_NUMBERS
            remarks.append(f"No PCA: more than {most:,} numbers an image are too many for it here.")
        elif self.pca is None:
            remarks.append("No PCA with as many numbers: an image has no more than a latent.")
        if self.prior is None:
            remarks.append("No diffusion prior (prior.npz; functa_jax.tasks.generate makes it).")
        elif self.normal is not None and self.pca is not None and self.pca_prior is None:
            remarks.append(
                "No diffusion prior of PCA with the settings of that of latents "
                "(functa_jax.tasks.generate makes both)."
            )
        return remarks


class Estimate(NamedTuple):
    """pictures (n, H, W, C) in [0, 1] of the test images, PSNR in dB on validation if a setting was
    chosen by it, and the settings."""

    pictures: np.ndarray
    val: float | None = None
    settings: dict = {}  # noqa: RUF012 -- never changed


def find_prior(material, name):
    """The diffusion.Prior in a file beside the reports of a task's Material, or None."""
    path = material.path(name)
    if not path.exists():
        return None
    from functa_jax.tasks.prior.diffusion import load_prior

    prior = load_prior(path)
    if prior.checkpoint != material.functa.fit_hash:
        raise UserError(f"{path} was made for latents of another fit; make it again or delete it")
    return prior


def estimates(models, val, test, measure):
    """{method: Estimate} of all models for what was Seen of validation and test images.

    measure(pictures): how good pictures of the validation images are, in dB. Latents and PCA choose
    among the same noises; with a diffusion prior around the noise that the Gaussian one chose.
    """

    def choose(restore, noises=NOISES):
        """(Estimate by restore(seen, noise) with the best noise, that noise)."""
        choice = best(noises, lambda noise: measure(restore(val, noise)), WIDER)
        pictures = restore(test, choice.value)
        return Estimate(pictures, choice.measure, choice.said("noise")), choice.value

    return _by_latents(models, val, test, measure, choose) | _by_pca(models, choose)


def _by_latents(models, val, test, measure, choose):
    functa, gaussian, prior = models.functa, models.gaussian, models.prior
    methods = {}

    def shown(latents):
        return np.clip(functa.decode(latents), 0, 1)

    most = max(MOST_STEPS, functa.inner_steps)
    courses = {seen: course(functa, seen, most) for seen in (val, test)}
    steps = best(range(most + 1), lambda k: measure(shown(courses[val][:, k])))
    pictures = shown(courses[test][:, steps.value])
    methods["latents, inner loop"] = Estimate(pictures, steps.measure, steps.said("steps"))

    further = {
        seen: shown(refine(functa, seen, gaussian, 0.0, start=courses[seen][:, steps.value]))
        for seen in (val, test)
    }
    methods["latents, more steps (Adam)"] = Estimate(further[test], measure(further[val]))

    @cache
    def probable(seen, noise):
        return refine(functa, seen, gaussian, noise)

    methods["latents, Gaussian prior"], chosen = choose(lambda *to: shown(probable(*to)))
    if prior is not None:

        def by_prior(seen, noise):
            return shown(refine_by_prior(functa, seen, probable(seen, chosen), prior, noise))

        methods["latents, diffusion prior"], _ = choose(by_prior, _around(chosen))
    return methods


def _by_pca(models, choose):
    pca, methods = models.pca, {}

    def linear(normal):
        return lambda seen, noise: np.clip(wiener.most_probable(normal, seen, noise), 0, 1)

    if pca is not None:
        name, by_few = f"PCA, {pca.n_components_} numbers", linear(wiener.Normal.of_pca(pca))
        methods[f"{name}, Gaussian prior"], chosen = choose(by_few)
        if models.pca_prior is not None:

            def by_prior(seen, noise):
                start = by_few(seen, chosen)
                return np.clip(wiener.by_prior(pca, seen, start, models.pca_prior, noise), 0, 1)

            methods[f"{name}, diffusion prior"], _ = choose(by_prior, _around(chosen))
    if models.normal is not None:
        methods["PCA, all components, Gaussian prior"], _ = choose(linear(models.normal))
    return methods


def _around(noise):
    return noise / WIDER, noise, noise * WIDER
