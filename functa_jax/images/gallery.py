"""A figure of pictures in named rows, for all that show images beside each other."""

import numpy as np

from groundfloor.plots import as_rgb, bare, figure

HIDDEN = (0.25, 0.4, 0.75)  # colour of pixels that are NaN
LETTER = 0.075  # inches


def gallery(path, rows, size=0.8):
    """Draw {name: pictures (m, h, w, C), floats in [0, 1]}, each row a strip beside its name.

    Rows may have pictures of different sizes; NaN pixels are blue. size: inches of one picture.
    """
    count = max(map(len, rows.values()))
    names = max(len(line) for name in rows for line in name.split("\n"))
    inches = (size * count + 0.3 + LETTER * names, size * len(rows))
    with figure(path, len(rows), size=inches, squeeze=False) as (_, axes):
        for ax, (name, pictures) in zip(axes[:, 0], rows.items(), strict=True):
            gap = max(1, pictures.shape[2] // 8)
            spaced = np.pad(
                colours(pictures), [(0, 0), (0, 0), (0, gap), (0, 0)], constant_values=1
            )
            ax.imshow(np.concatenate(spaced, axis=1))
            bare(ax)
            ax.set_anchor("E")  # what is left over is for names
            ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def colours(pictures):
    """Pictures (..., C) clipped to [0, 1], as RGB on white; NaN pixels in the colour HIDDEN."""
    shown = as_rgb(np.clip(pictures, 0, 1))
    return np.where(np.isnan(shown).any(axis=-1, keepdims=True), HIDDEN, shown)
