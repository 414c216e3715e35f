"""Figures fit for a paper: one style, written whole, without a display."""

import contextlib

from common.runs import atomic

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


@contextlib.contextmanager
def figure(path, rows=1, columns=1, *, size, **options):
    """Yield (figure, axes) of matplotlib's subplots; saved to `path` (.png, .pdf) at the end.

    size: (width, height) in inches; options go to `Figure.subplots`. pyplot is left alone, so that
    a notebook keeps its own way of showing figures.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        made = Figure(size, layout="constrained")
        yield made, made.subplots(rows, columns, **options)
        with atomic(path) as temporary:
            made.savefig(temporary)
