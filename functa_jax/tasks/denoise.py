"""Denoising: latents are fitted to noisy pictures, in few steps or with a prior, and rendered.

A latent has fewer numbers than the picture, so most noise finds no place in it; how many steps the
inner loop may take before it fits the rest is chosen on validation, for each noise by itself.
Beside it: total variation (Chambolle 2004) and a Gaussian filter, which know only that pictures are
smooth, each with its strength chosen on validation, PCA with as many numbers, as a projection and
with its prior, and PCA with all components, which is Wiener's filter.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_tv_chambolle

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.restoration import estimates
from functa_jax.tasks.restoration.estimates import Estimate
from functa_jax.tasks.restoration.fitting import Seen
from groundfloor import checks, cli, seeds
from groundfloor.checks import Count, Interval

Noise = Annotated[float, Interval(0, 10, without_low=True)]


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """How much noise, on how many images."""

    noise: tuple[Noise, ...] = (0.05, 0.1, 0.2)
    """Standard deviations of the Gaussian noise; pictures are in [0, 1]."""
    count: Count = 100
    """Test images at most, evenly spaced; a quarter as many validation images choose all
    strengths."""
    shown: Count = 10
    """Images in each figure, at most."""

    def __post_init__(self):
        checks.check(self)
        names = {f"{noise:g}" for noise in self.noise}
        checks.require(self.noise, "noise", self.noise, "give one or more")
        checks.require(len(names) == len(self.noise), "noise", self.noise, "give each once")


def main(config):
    """The whole task; see the module's docstring."""
    about = task.load(config)
    val, test = estimates.images(about, config.count)
    models = estimates.Models.with_rivals(about)
    estimates.announce("denoising", about, models, len(config.noise), val, test)

    rows, figures, chosen = {}, [], {}
    for noise in config.noise:
        name = f"noise {noise:g}"
        noisy_val = noisy_pictures(val, noise, (config.seed, "validation", name))
        noisy = noisy_pictures(test, noise, (config.seed, "test", name))
        found = _estimates(models, noisy_val, noisy, val)
        pictures = {method: estimate.pictures for method, estimate in found.items()}
        pictures = {"as it is": np.clip(noisy, 0, 1), **pictures}
        estimates.tabulate(rows, name, pictures, test)
        chosen[name] = {method: estimate.chosen for method, estimate in found.items()}
        print(f"{name}: done", flush=True)
        figures.append(f"denoise_{noise:g}.png")
        shown = {"original": test, **pictures}
        shown = {method: images[: config.shown] for method, images in shown.items()}
        estimates.gallery(about.path(figures[-1]), shown)
    remarks = [
        f"PSNR in dB against the originals, mean over {len(test)} test images; the noise is not "
        f"clipped, all pictures shown are, to [0, 1]. One seed ({config.seed}).",
        f"Chosen on {len(val)} validation images: {estimates.said(chosen)}.",
        *estimates.diverged(rows),
        *models.remarks(),
    ]
    task.report(about, "denoise", config, list(rows.values()), figures, remarks)


def _estimates(models, val, test, originals):
    """{method: Estimate} of latents, PCA and filters for noisy pictures (n, h, w, C)."""

    def measure(pictures):
        return estimates.psnr(pictures, originals)

    found = estimates.estimates(models, Seen(val), Seen(test), measure)
    if models.pca is not None:
        val_projected, projected = (_projection(models.pca, pictures) for pictures in (val, test))
        name = f"PCA, {models.pca.n_components_} numbers, projection"
        found[name] = Estimate(projected, measure(val_projected), {})
    for method, (filtered, name, strengths) in FILTERS.items():
        choice = estimates.best(
            strengths, lambda s, f=filtered: measure(f(val, s)), estimates.WIDER
        )
        pictures = filtered(test, choice.value)
        found[method] = Estimate(pictures, choice.measure, choice.said(name))
    return found


def noisy_pictures(pictures, noise, path):
    """Pictures (n, h, w, C) plus Gaussian noise, float32; path: seed and names of its stream."""
    random = np.random.default_rng(seeds.fold(*path))
    return (pictures + noise * random.standard_normal(pictures.shape)).astype(np.float32)


def _projection(pca, pictures):
    rows = pca.inverse_transform(pca.transform(reconstruction.as_rows(pictures)))
    return np.clip(rows, 0, 1).reshape(pictures.shape)


def total_variation(pictures, weight):
    """Pictures (n, h, w, C) with less total variation, each by itself, clipped to [0, 1]."""
    smooth = [denoise_tv_chambolle(x, weight=weight, channel_axis=-1) for x in pictures]
    return np.clip(smooth, 0, 1)


def blurred(pictures, sigma):
    """Pictures (n, h, w, C) behind a Gaussian filter of sigma pixels, clipped to [0, 1]."""
    return np.clip(gaussian_filter(pictures, (0, sigma, sigma, 0)), 0, 1)


FILTERS = {
    "total variation": (total_variation, "weight", tuple(0.005 * 2.0 ** np.arange(0, 7, 0.5))),
    "Gaussian filter": (blurred, "sigma", tuple(np.arange(0.2, 1.7, 0.1))),
}


if __name__ == "__main__":
    cli.run(main, Config)
