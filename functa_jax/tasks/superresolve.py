"""Super-resolution: latents are fitted to a small picture, and rendered at the original's size.

A functa has no resolution of its own. Two ways to meet a small picture: the function at the centres
of its pixels, or, as a camera sees it, the function averaged over each of them; validation chooses.
What the latent then adds between the pixels is what the shared network learned from large images.
Beside it: interpolation by Pillow (nearest, bicubic, Lanczos), and PCA fitted through the averages,
with as many numbers and with all components (Wiener's filter).
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from PIL import Image

from functa_jax.tasks import task
from functa_jax.tasks.restoration import estimates
from functa_jax.tasks.restoration.fitting import Seen, block_means
from groundfloor import checks, cli
from groundfloor.checks import LARGEST, Count, Interval
from groundfloor.errors import UserError

Factor = Annotated[int, Interval(2, LARGEST)]
Side = Annotated[int, Interval(1, 4096)]  # ten pictures of that side fit in memory
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "Lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """How much smaller the pictures are that latents are fitted to."""

    factor: tuple[Factor, ...] = (2, 4)
    """Factors, each of which divides the sides of the images."""
    resolution: Side | None = None
    """Side in pixels of the large pictures; default 8 times the images'."""
    count: Count = 100
    """Test images at most, evenly spaced; a quarter as many validation images choose steps and
    noise."""
    shown: Count = 10
    """Images in each figure, at most."""

    def __post_init__(self):
        checks.check(self)
        checks.require(self.factor, "factor", self.factor, "give one or more")
        checks.require(
            len(set(self.factor)) == len(self.factor), "factor", self.factor, "give each once"
        )


def main(config):
    """The whole task; see the module's docstring."""
    about = task.load(config)
    sides = about.functa.resolution
    for factor in config.factor:
        if any(side % factor for side in sides):
            raise UserError(f"--factor {factor} does not divide {sides[0]}x{sides[1]} pixels")
    val, test = estimates.images(about, config.count)
    models = estimates.Models.with_rivals(about)
    estimates.announce("super-resolution", about, models, 2 * len(config.factor), val, test)

    rows, figures, chosen = {}, [], {}
    for factor in config.factor:
        small = block_means(test, factor)
        found = _estimates(models, block_means(val, factor), small, val, factor)
        pictures = {name: estimate.pictures for name, estimate in found.items()}
        pictures |= {name: enlarge(small, sides, name) for name in FILTERS}
        estimates.tabulate(rows, f"x {factor}", pictures, test)
        chosen[f"x {factor}"] = {name: estimate.chosen for name, estimate in found.items()}
        print(f"factor {factor}: done", flush=True)
        figures.append(f"superresolve_x{factor}.png")
        shown = {"original": test, "seen": enlarge(small, sides, "nearest"), **pictures}
        del shown["nearest"]
        shown = {name: images[: config.shown] for name, images in shown.items()}
        estimates.gallery(about.path(figures[-1]), shown)
    figures.append("superresolve_large.png")
    _draw_large(about.path(figures[-1]), about.functa, test, config)
    remarks = [
        f"PSNR in dB against the originals, mean over {len(test)} test images; small pictures are "
        f"means over blocks. All pictures are clipped to [0, 1]. One seed ({config.seed}).",
        f"Chosen on {len(val)} validation images: {estimates.said(chosen)}.",
        *estimates.diverged(rows),
        "superresolve_large.png goes beyond the originals, where nothing can be measured.",
        *models.remarks(),
    ]
    task.report(about, "superresolve", config, list(rows.values()), figures, remarks)


def _estimates(models, val, test, originals, factor):
    """The estimates of both ways to meet small pictures, the better on validation of each."""

    def measure(pictures):
        return estimates.psnr(pictures, originals)

    found = {}
    for way, oversample in {"averages": factor, "centres": 1}.items():
        if way == "centres":  # PCA knows pixels alone
            models = models._replace(pca=None, normal=None)
        seen = (Seen(val, oversample=oversample), Seen(test, oversample=oversample))
        for name, estimate in estimates.estimates(models, *seen, measure).items():
            estimate.chosen["seen as"] = way
            if name not in found or estimate.val > found[name].val:
                found[name] = estimate
    return found


def enlarge(pictures, sides, name):
    """Pictures (n, h, w, C), floats in [0, 1], at sides (H, W) by a filter of Pillow, clipped."""
    height, width = sides
    resized = [
        [
            np.asarray(Image.fromarray(channel).resize((width, height), FILTERS[name]))
            for channel in np.moveaxis(np.asarray(picture, np.float32), -1, 0)
        ]
        for picture in pictures
    ]
    return np.clip(np.moveaxis(np.stack(resized), 1, -1), 0, 1)


def _draw_large(path, functa, test, config):
    height, width = functa.resolution
    side = config.resolution or 8 * min(height, width)
    scale = side / min(height, width)
    sides = (round(scale * height), round(scale * width))
    test = test[: config.shown]
    latents, _ = functa.encode(test)
    rows = {
        "original": test,
        f"bicubic\n{sides[0]}x{sides[1]}": enlarge(test, sides, "bicubic"),
        f"functa\n{sides[0]}x{sides[1]}": functa.decode(latents, resolution=sides),
    }
    estimates.gallery(path, rows)


if __name__ == "__main__":
    cli.run(main, Config)
