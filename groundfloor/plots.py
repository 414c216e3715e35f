"""Figures fit for a paper: one style, written whole, without a display.

No figure is wider than WIDTH unless it is one strip of pictures, so that its text can still be read
at the width of a printed column. One colour is one thing in all pictures of a study: COLOURS.
"""

import contextlib
from pathlib import Path
from typing import Literal

import numpy as np
from cycler import cycler

from groundfloor.runs import atomic

WIDTH = 7.0  # inches
# Told apart by the colour-blind (Okabe and Ito 2008); yellow is left out, as paper is white.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#999999"
PALETTE = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK, GREY)
COLOURS = {
    # functa_jax: what an image is known by
    "latents": BLUE,
    "functa": BLUE,
    "PCA": BLACK,
    "whole PCA": GREY,
    "pixels": ORANGE,
    "values": ORANGE,
    "rebuilt": GREEN,
    "SIREN": GREEN,
    # optim_torch: what a network has, and what became of a group of weights
    "none": RED,
    "batch": BLUE,
    "selected": BLUE,
    "dropped": RED,
    "SGD": GREY,
}
STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.markersize": 4,
    "lines.linewidth": 1.4,
    "axes.prop_cycle": cycler(color=PALETTE),
    "svg.fonttype": "path",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
}
Kind = Literal["png", "pdf", "svg"]  # of a command's --figures
_formats = {"further": ()}  # suffixes, beside that of the path


def use(kind):
    """From here on, every figure is written in this form, too, beside its PNG."""
    _formats["further"] = () if kind == "png" else (f".{kind}",)


@contextlib.contextmanager
def figure(path, rows=1, columns=1, *, size, **options):
    """Yield (figure, axes) of matplotlib's subplots; saved to `path` (.png, .pdf) at the end.

    size: (width, height) in inches; options go to `Figure.subplots`. pyplot is left alone, so that
    a notebook keeps its own way of showing figures.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    path = Path(path)
    with mpl.rc_context(STYLE):
        made = Figure(size, layout="constrained")
        yield made, made.subplots(rows, columns, **options)
        for target in {path, *map(path.with_suffix, _formats["further"])}:
            with atomic(target) as temporary:
                made.savefig(temporary)


def legend(made, axes, **options):
    """One legend for all axes of a figure (or of a subfigure), outside of them, each label once.

    options: of `Figure.legend`; `loc` begins with "outside" and is at the right without any.
    """
    handles = {}
    for axis in np.ravel(axes):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    options = {"loc": "outside right upper"} | options
    return made.legend(handles.values(), handles.keys(), **options)


def many(number):
    """Colour and line style (dict) of one of up to 24 lines, no two of them alike."""
    turn, place = divmod(number, len(PALETTE))
    return {"color": PALETTE[place], "linestyle": ("-", "--", ":")[turn % 3]}


def logarithmic(axes, which):
    """Make the "x" or "y" axis of what is drawn logarithmic, with plain numbers: 1, 10, 100 or, of
    less than two powers of ten, 1, 2, 5, 10, too."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    low, high = getattr(axes, f"get_{which}lim")()
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1,) if high / low > 100 else (1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def bare(axis):
    """Take ticks, grid and frame away from around a picture."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def as_rgb(images):
    """Pictures (..., c), uint8 or floats in [0, 1], as colours (..., 3) of the same type.

    One channel is grey; the last of two or four is opacity, before white; of five or more the first
    three are shown.
    """
    channels = images.shape[-1]
    colours = images[..., :3]
    if channels in (2, 4):
        white = 255 if images.dtype == np.uint8 else 1
        opacity = images[..., -1:] / white
        colours = images[..., :-1] * opacity + white * (1 - opacity)
        colours = (np.rint(colours) if white == 255 else colours).astype(images.dtype)
    return np.broadcast_to(colours, (*colours.shape[:-1], 3))
