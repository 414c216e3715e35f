"""Super-resolution: latents are fitted to a small picture, and rendered at the original's size.

A functa has no resolution of its own. Two ways to meet a small picture: the function at the centres
of its pixels, or, as a camera sees it, the function averaged over each of them; validation chooses.
What the latent then adds between the pixels is what the shared network learned from large images.
Beside it: interpolation by Pillow (nearest, bicubic, Lanczos), and PCA fitted through the averages,
with as many numbers and with all components (Wiener's filter).
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from PIL import Image

from functa_jax.images.gallery import gallery
from functa_jax.tasks import task
from functa_jax.tasks.restoration.estimates import Estimate
from functa_jax.tasks.restoration.fitting import Seen, block_means
from functa_jax.tasks.restoration.protocol import Case, RestorationConfig, Study
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo, Interval
from groundfloor.errors import UserError

Side = Annotated[int, Interval(1, 4096)]  # ten pictures of that side fit in memory
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "Lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Config(RestorationConfig):
    """How much smaller the pictures are that latents are fitted to."""

    factor: tuple[AtLeastTwo, ...] | None = None
    """Factors, each of which divides the sides of the images; none: 2 and 4, or those of 2 and 3
    that do."""
    resolution: Side | None = None
    """Side in pixels of the large pictures; default 8 times the images'."""

    def __post_init__(self):
        super().__post_init__()
        if self.factor is not None:
            different = len(set(self.factor)) == len(self.factor)
            checks.require(self.factor and different, "factor", self.factor, "give each once")


def main(config):
    """Fit, measure, draw; returns the report."""
    material = task.load(config, images_only=True)
    sides = material.functa.resolution
    factors = config.factor or usual_factors(sides)
    if not factors:
        raise task.NotForThese(f"2, 3 and 4 do not divide {sides[0]}x{sides[1]} pixels")
    for factor in factors:
        if any(side % factor for side in sides):
            raise UserError(f"--factor {factor} does not divide {sides[0]}x{sides[1]} pixels")
    study = Study("superresolve", material, config)
    study.announce("super-resolution", 2 * len(factors))
    for factor in factors:
        small_val, small = block_means(study.val, factor), block_means(study.test, factor)
        seen = Seen(small_val, oversample=factor), Seen(small, oversample=factor)
        case = Case(f"x {factor}", f"superresolve_x{factor}.png", *seen)
        methods = _estimates(study, case)
        methods |= {name: Estimate(enlarge(small, sides, name)) for name in FILTERS}
        study.add(case, methods, seen=methods["nearest"].pictures)
    study.figures.append("superresolve_large.png")
    _draw_large(material.path(study.figures[-1]), material.functa, study.test, config)
    return study.report(
        f"against the originals, mean over {len(study.test)} test images; small pictures are "
        "means over blocks. All pictures are clipped to [0, 1].",
        "The last picture goes beyond the originals, where nothing can be measured.",
    )


def usual_factors(sides):
    """Factors for images of these sides: 2 and 4 where both divide them, else those of 2 and 3."""
    common = math.gcd(*sides)
    if common % 4 == 0:
        return 2, 4
    return tuple(factor for factor in (2, 3) if common % factor == 0)


def _estimates(study, case):
    """The estimates of both ways to meet small pictures, the better on validation of each."""
    latents_alone = study.models._replace(pca=None, normal=None)  # PCA knows pixels, not points
    centres = case._replace(val=Seen(case.val.pictures), test=Seen(case.test.pictures))
    methods = {}
    ways = {"averages": study.estimates(case), "centres": study.estimates(centres, latents_alone)}
    for way, estimates in ways.items():
        for name, estimate in estimates.items():
            if name not in methods or estimate.val > methods[name].val:
                settings = estimate.settings | {"seen as": way}
                methods[name] = estimate._replace(settings=settings)
    return methods


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
    gallery(path, rows)


if __name__ == "__main__":
    cli.run(main, Config)
