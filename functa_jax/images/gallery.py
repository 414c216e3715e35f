"""A figure of pictures in named rows, for all that show images beside each other."""

import textwrap

import numpy as np

from groundfloor.plots import WIDTH, as_rgb, bare, figure

HIDDEN = (0.25, 0.4, 0.75)  # colour of pixels that are NaN
LETTER, MOST_LETTERS = 0.066, 22  # inches; in a line of a name


def gallery(path, rows, size=0.8):
    """Draw {name: pictures (m, h, w, C), floats in [0, 1]}, each row a strip beside its name.

    Rows may have pictures of different sizes; NaN pixels are blue. size: inches of one picture,
    less where a row would be wider than a page.
    """
    rows = {wrapped(name): pictures for name, pictures in rows.items()}
    count = max(map(len, rows.values()))
    names = 0.3 + LETTER * max(len(line) for name in rows for line in name.split("\n"))
    size = min(size, (WIDTH - names) / count)
    tall = max(picture.shape[1] / picture.shape[2] for picture in rows.values())
    inches = (size * count + names, size * tall * len(rows))
    with figure(path, len(rows), size=inches, squeeze=False) as (_, axes):
        for ax, (name, pictures) in zip(axes[:, 0], rows.items(), strict=True):
            for number, picture in enumerate(colours(pictures)):
                # Columns stand below each other whatever the pictures' resolutions.
                below = 0.89 * picture.shape[0] / picture.shape[1]
                ax.imshow(picture, extent=(number, number + 0.89, below, 0))
            bare(ax)
            ax.set(xlim=(0, count), ylim=(0.95 * tall, 0), anchor="E")
            ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def wrapped(name):
    """A name of a row in lines that are not too long; lines that it has stay."""
    return "\n".join(textwrap.fill(line, MOST_LETTERS) for line in name.split("\n"))


def colours(pictures):
    """Pictures (..., C) clipped to [0, 1], as RGB on white; NaN pixels in the colour HIDDEN."""
    shown = as_rgb(np.clip(pictures, 0, 1))
    return np.where(np.isnan(shown).any(axis=-1, keepdims=True), HIDDEN, shown)
