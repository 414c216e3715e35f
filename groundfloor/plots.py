"""Figures fit for a paper: one style, written whole, without a display."""

import contextlib
from pathlib import Path
from typing import Literal

import numpy as np

from groundfloor.runs import atomic

STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
}
Kind = Literal["png", "pdf"]  # of a command's --figures
_formats = {"further": ()}  # suffixes, beside that of the path


def use(kind):
    """From here on, "pdf" writes every figure as a PDF, too, beside its PNG; "png" does not."""
    _formats["further"] = (".pdf",) if kind == "pdf" else ()


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
