"""Inpainting: latents are fitted to the visible pixels alone, and their pictures fill the rest.

A functa is a function of all coordinates, so a pixel that is not looked at needs no stand-in: it
is left out of the loss. How well the hidden ones come out says what the shared network knows about
images. Beside it: interpolation between the visible pixels (linear, biharmonic), which knows only
that pictures are smooth, PCA with as many numbers per image, and PCA with all components (Wiener's
filter).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import QhullError
from skimage.restoration import inpaint_biharmonic

from functa_jax.tasks import task
from functa_jax.tasks.restoration.estimates import Estimate
from functa_jax.tasks.restoration.fitting import Seen
from functa_jax.tasks.restoration.protocol import Case, RestorationConfig, Study
from groundfloor import checks, cli, seeds
from groundfloor.checks import InnerShare
from groundfloor.errors import UserError


@dataclass(frozen=True)
class Config(RestorationConfig):
    """What is hidden, and from how many images."""

    hidden: tuple[InnerShare, ...] = (0.5, 0.8)
    """Shares of pixels hidden at random, in (0, 1); besides, the lower half and a box are."""
    box: InnerShare = 0.5
    """Side of the hidden box in the middle, as a share of the image's, in (0, 1)."""

    def __post_init__(self):
        super().__post_init__()
        names = {f"{share:g}" for share in self.hidden}
        checks.require(len(names) == len(self.hidden), "hidden", self.hidden, "give each once")


def main(config):
    """Fit, measure, draw; returns the report."""
    material = task.load(config, images_only=True)
    kinds = masks(config, material.functa.resolution)
    study = Study("inpaint", material, config)
    study.announce(f"inpainting, {', '.join(kinds)}", len(kinds))
    for kind, draw in kinds.items():
        val = drawn(draw, len(study.val), (config.seed, "validation", kind))
        test = drawn(draw, len(study.test), (config.seed, "test", kind))
        figure = f"inpaint_{kind.removesuffix(' %').replace(' ', '_')}.png"
        case = Case(kind, figure, Seen(study.val, val), Seen(study.test, test))
        methods = study.estimates(case)
        for name, fill in FILLS.items():
            filled = [fill(*pair) for pair in zip(study.test, test > 0, strict=True)]
            methods[name] = Estimate(np.clip(filled, 0, 1))
        study.add(case, methods, seen=np.where(test[..., None] > 0, study.test, np.nan))
    return study.report(
        f"over hidden pixels alone, mean over {len(study.test)} test images; visible pixels "
        "count for nothing. All pictures are clipped to [0, 1].",
    )


# ---- what is hidden ----


def masks(config, resolution):
    """{name: function of a random generator that draws a mask (h, w), True where visible}.

    Raises UserError if one hides every pixel, or none.
    """
    height, width = resolution
    whole = np.ones((height, width), bool)

    def at_random(share, rng):
        mask = whole.ravel().copy()
        mask[rng.choice(mask.size, round(share * mask.size), replace=False)] = False
        return mask.reshape(whole.shape)

    def lower_half(rng):
        mask = whole.copy()
        mask[height // 2 :] = False
        return mask

    def box(rng):
        mask, (rows, columns) = whole.copy(), (round(config.box * side) for side in resolution)
        top, left = (height - rows) // 2, (width - columns) // 2
        mask[top : top + rows, left : left + columns] = False
        return mask

    kinds = {f"random {100 * x:g} %": partial(at_random, x) for x in config.hidden}
    kinds |= {"half": lower_half, "box": box}
    for name, draw in kinds.items():
        mask = draw(np.random.default_rng(0))
        if mask.all() or not mask.any():
            what = "no pixel" if mask.all() else "every pixel"
            raise UserError(f"mask {name!r} hides {what} of {height}x{width}: choose another share")
    return kinds


def drawn(draw, count, path):
    """Masks (count, h, w), float32, 1 where visible; path: seed and names of their stream."""
    random = np.random.default_rng(seeds.fold(*path))
    return np.stack([draw(random) for _ in range(count)]).astype(np.float32)


# ---- what knows nothing of a network ----


def mean_colour(picture, mask):
    """Hidden pixels get the mean of the visible ones; picture (h, w, C), mask (h, w)."""
    return np.where(mask[..., None], picture, picture[mask].mean(axis=0))


def linear(picture, mask):
    """Linear interpolation between visible pixels, the nearest one where none lie around."""
    known, wanted = np.argwhere(mask), np.argwhere(~mask)
    colours = NearestNDInterpolator(known, picture[mask])(wanted)
    try:
        inside = LinearNDInterpolator(known, picture[mask])(wanted)
        colours = np.where(np.isnan(inside), colours, inside)
    except QhullError:  # fewer than three, or all on a line
        pass
    filled = picture.copy()
    filled[~mask] = colours
    return filled


def biharmonic(picture, mask):
    """The smoothest filling: zero biharmonic operator (scikit-image)."""
    return inpaint_biharmonic(picture, ~mask, channel_axis=-1)


FILLS = {"mean colour": mean_colour, "linear": linear, "biharmonic": biharmonic}


if __name__ == "__main__":
    cli.run(main, Config)
