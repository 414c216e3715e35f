"""Denoising: latents are fitted to noisy pictures, in few steps or with a prior, and rendered.

A latent has fewer numbers than the picture, so most noise finds no place in it; how many steps the
inner loop may take before it fits the rest is chosen on validation, for each noise by itself.
Beside it: total variation (Chambolle 2004), a Gaussian filter and non-local means (Buades et al.
2005), which know only that pictures are smooth or like themselves, each with its strength chosen on
validation, PCA with as many numbers, as a projection and with its prior, and PCA with all
components, which is Wiener's filter.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.restoration.choice import WIDER, best
from functa_jax.tasks.restoration.estimates import Estimate
from functa_jax.tasks.restoration.fitting import Seen
from functa_jax.tasks.restoration.protocol import Case, RestorationConfig, Study
from groundfloor import checks, cli, seeds
from groundfloor.checks import Interval

Noise = Annotated[float, Interval(0, 10, without_low=True)]


@dataclass(frozen=True)
class Config(RestorationConfig):
    """How much noise, on how many images."""

    noise: tuple[Noise, ...] = (0.05, 0.1, 0.2)
    """Standard deviations of the Gaussian noise; pictures are in [0, 1]."""

    def __post_init__(self):
        super().__post_init__()
        names = {f"{noise:g}" for noise in self.noise}
        checks.require(len(names) == len(self.noise), "noise", self.noise, "give each once")


def main(config):
    """Fit, measure, draw; returns the report."""
    study = Study("denoise", task.load(config, images_only=True), config)
    study.announce("denoising", len(config.noise))
    for noise in config.noise:
        name = f"noise {noise:g}"
        val = noisy_pictures(study.val, noise, (config.seed, "validation", name))
        test = noisy_pictures(study.test, noise, (config.seed, "test", name))
        case = Case(name, f"denoise_{noise:g}.png", Seen(val), Seen(test))
        methods = {"as it is": Estimate(np.clip(test, 0, 1)), **study.estimates(case)}
        study.add(case, methods | _rivals(study, case))
    return study.report(
        f"against the originals, mean over {len(study.test)} test images; the noise is not "
        "clipped, all pictures shown are, to [0, 1].",
    )


def _rivals(study, case):
    """{method: Estimate} of the projection on PCA, and of filters."""
    pca, methods = study.models.pca, {}
    if pca is not None:
        rows = pca.inverse_transform(pca.transform(reconstruction.as_rows(case.test.pictures)))
        pictures = np.clip(rows, 0, 1).reshape(study.test.shape)
        methods[f"PCA, {pca.n_components_} numbers, projection"] = Estimate(pictures)
    for method, (restore, name, strengths) in FILTERS.items():
        restored = partial(restore, case.val.pictures)
        choice = best(strengths, lambda s, r=restored: study.measure(case, r(s)), WIDER)
        pictures = restore(case.test.pictures, choice.value)
        methods[method] = Estimate(pictures, choice.measure, choice.said(name))
    return methods


def noisy_pictures(pictures, noise, path):
    """Pictures (n, h, w, C) plus Gaussian noise, float32; path: seed and names of its stream."""
    random = np.random.default_rng(seeds.fold(*path))
    return (pictures + noise * random.standard_normal(pictures.shape)).astype(np.float32)


def total_variation(pictures, weight):
    """Pictures (n, h, w, C) with less total variation, each by itself, clipped to [0, 1]."""
    smooth = [denoise_tv_chambolle(x, weight=weight, channel_axis=-1) for x in pictures]
    return np.clip(smooth, 0, 1)


def blurred(pictures, sigma):
    """Pictures (n, h, w, C) behind a Gaussian filter of sigma pixels, clipped to [0, 1]."""
    return np.clip(gaussian_filter(pictures, (0, sigma, sigma, 0)), 0, 1)


def non_local_means(pictures, cut_off):
    """Pictures (n, h, w, C) whose pixels are means of those with patches alike (Buades et al.
    2005), within `cut_off` of each other, clipped to [0, 1]."""
    found = [
        denoise_nl_means(x, patch_size=5, patch_distance=9, h=cut_off, channel_axis=-1)
        for x in pictures
    ]
    return np.clip(found, 0, 1).reshape(pictures.shape)  # it drops a single channel


FILTERS = {
    "total variation": (total_variation, "weight", tuple(0.005 * 2.0 ** np.arange(0, 7, 0.5))),
    "Gaussian filter": (blurred, "sigma", tuple(np.arange(0.2, 1.7, 0.1))),
    "non-local means": (non_local_means, "cut-off", tuple(0.02 * 2.0 ** np.arange(0, 4.5, 0.5))),
}


if __name__ == "__main__":
    cli.run(main, Config)
