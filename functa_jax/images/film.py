"""A GIF of several pictures that change at once, there and back or around."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from groundfloor.plots import as_rgb
from groundfloor.runs import atomic

CELL = 64  # pixels of an image, about
CAPTION = 120  # pixels beside them


def animate(path, rows, back=True):
    """Write a GIF: a row for each {name: (films, frames, h, w, C)}.

    back: there and back, with a rest at the ends; else over and over, all frames of one length.
    """
    rows = {name: enlarged(films) for name, films in rows.items()}
    count, length, height, width, _ = next(iter(rows.values())).shape
    font = ImageFont.load_default(11)
    size = (CAPTION + count * (width + 4), len(rows) * (height + 4))
    pictures = []
    for t in [*range(length), *(range(length - 2, 0, -1) if back else ())]:
        canvas = Image.new("RGB", size, "white")
        for line, (name, films) in enumerate(rows.items()):
            top = line * (height + 4)
            where = (4, top + height // 2)
            ImageDraw.Draw(canvas).text(where, name, fill="black", font=font, anchor="lm")
            for column, film in enumerate(films):
                left = CAPTION + column * (width + 4)
                canvas.paste(Image.fromarray(film[t]), (left, top))
        pictures.append(canvas)
    rests = (0, length - 1) if back else ()
    waits = [600 if k in rests else 90 for k in range(len(pictures))]  # milliseconds
    with atomic(path) as temporary:
        pictures[0].save(
            temporary, save_all=True, append_images=pictures[1:], duration=waits, loop=0
        )


def enlarged(films):
    """Films (n, frames, h, w, C) as uint8 colours, each pixel a square of pixels."""
    times = max(1, round(CELL / films.shape[2]))
    colours = np.rint(255 * as_rgb(films)).astype(np.uint8)
    return colours.repeat(times, axis=2).repeat(times, axis=3)
