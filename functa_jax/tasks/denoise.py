"""Denoising: latents are fitted to noisy pictures, in few steps or with a prior, and rendered.

A latent has fewer numbers than the picture, so most noise finds no place in it; how many steps the
inner loop may take before it fits the rest is chosen on validation, for each noise by itself.
Beside it: total variation (Chambolle 2004) and a Gaussian filter, which know only that pictures are
smooth, each with its strength chosen on validation, and PCA, as a projection and with its prior.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_tv_chambolle

from common import cli
from functa_jax.tasks import estimates, material
from functa_jax.tasks.estimates import Estimate
from functa_jax.tasks.fitting import Seen, pca_fit


@dataclass(frozen=True)
class Config(material.TaskConfig):
    """How much noise, on how many images."""

    noise: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Standard deviations of the Gaussian noise; pictures are in [0, 1]."""
    count: int = 100
    """Test images, evenly spaced; a quarter as many validation images choose all strengths."""
    shown: int = 10
    """Images in each figure."""

    def __post_init__(self):
        for name in ("count", "shown"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: must be at least 1")
        for noise in self.noise:
            if not 0 < noise < float("inf"):
                raise ValueError(f"--noise {noise}: must be positive")


def main(config):
    """The whole task; see the module's docstring."""
    about = material.load(config)
    val = estimates.spaced(about.data.val, -(-config.count // 4))
    test = estimates.spaced(about.data.test, config.count)
    models = estimates.Models.of(about)
    print(f"denoising {len(test)} test images", flush=True)

    rows, figures, chosen = {}, [], {}
    for number, noise in enumerate(config.noise):
        name = f"noise {noise:g}"
        rng = np.random.default_rng((config.seed, number))
        noisy_val, noisy = (
            (images + noise * rng.standard_normal(images.shape)).astype(np.float32)
            for images in (val, test)
        )
        found = _estimates(models, noisy_val, noisy, val)
        pictures = {method: estimate.pictures for method, estimate in found.items()}
        pictures = {"as it is": np.clip(noisy, 0, 1), **pictures}
        for method, images in pictures.items():
            rows.setdefault(method, {"method": method})[name] = estimates.psnr(images, test)
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
        *models.remarks(),
    ]
    material.report(about, "denoise", config, list(rows.values()), figures, remarks)


def _estimates(models, val, test, originals):
    """{method: Estimate} of latents, PCA and filters for noisy pictures (n, h, w, C)."""

    def measure(pictures):
        return estimates.psnr(pictures, originals)

    found = estimates.estimates(models, Seen(val), Seen(test), measure)
    if models.pca is not None:
        projected = [np.clip(pca_fit(models.pca, Seen(x), 0.0), 0, 1) for x in (val, test)]
        found["PCA, projection"] = Estimate(projected[1], measure(projected[0]), {})
    for method, (filtered, name, strengths) in FILTERS.items():
        strength, dB = estimates.best(strengths, lambda s, f=filtered: measure(f(val, s)))
        found[method] = Estimate(filtered(test, strength), dB, {name: strength})
    return found


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
