"""Pictures of functions on a lattice: each row a way to know them, each column a function.

    draw(path, "voxels", (32, 32, 32), {"truth": values, "functa\nIoU 0.82": rebuilt})

Solids are shaded surfaces, fields maps in Mollweide's equal-area projection, sound waves above
their spectrograms, films strips of frames. Names of rows say how good they are, and of what.
"""

import numpy as np
from scipy.signal import spectrogram

from functa_jax.images import film
from functa_jax.images.gallery import gallery, wrapped
from functa_jax.images.signals import to_float
from functa_jax.modalities import isosurface
from groundfloor.plots import COLOURS, WIDTH, as_rgb, bare, figure

LOWEST_DB = 50  # of a spectrogram, below its loudest
WINDOW = 128  # samples of a spectrum in it
TURN = 16  # pictures of a solid that turns


def draw(path, modality, lattice, rows):
    """Write a picture of {name: values (m, N, c), uint8 or floats about [0, 1]} in C order.

    Returns whether such functions have one: of one, two or three dimensions on a lattice.
    """
    if lattice is None or len(lattice) > 3:
        return False
    kinds = {"voxels": solids, "sphere": maps, "sound": waves, "video": strips, "scenes": views}
    own = kinds.get(modality) or {1: waves, 2: gallery, 3: slices}[len(lattice)]
    own(path, on_lattice(rows, lattice))
    return True


def animate(path, modality, lattice, rows):
    """Write a GIF of the same, of films and of solids, which turn; returns whether there is one."""
    if modality not in ("video", "voxels"):
        return False
    rows = on_lattice(rows, lattice)
    if modality == "voxels":
        rows = {name: _turned(fields) for name, fields in rows.items()}
    film.animate(path, {name.splitlines()[0]: np.clip(films, 0, 1) for name, films in rows.items()})
    return True


def on_lattice(rows, lattice):
    """{name: floats (m, *lattice, c)} of {name: values (m, N, c)}."""
    return {
        name: to_float(values).reshape(len(values), *lattice, -1) for name, values in rows.items()
    }


def described(name, metric, unit, values):
    """Of a row: its name and the mean (n,) of a metric."""
    digits = 3 if not unit else 1
    return f"{name}\n{metric} {np.mean(values):.{digits}f} {unit}".rstrip()


# ---- by modality: (path, {name: (m, *lattice, c)}) ----


def solids(path, rows):
    """Shaded surfaces at one half."""

    def shaded(fields):
        return np.stack([isosurface.picture(field[..., 0]) for field in fields]) / 255

    _grid(path, {name: shaded(fields) for name, fields in rows.items()}, 1.15)


def _turned(fields):
    """Films (m, TURN, h, w, 3) in [0, 1] of solids that turn."""
    return np.stack([isosurface.turntable(field[..., 0], 64, TURN) for field in fields]) / 255


def slices(path, rows):
    """The middle slice of each dimension, side by side."""

    def cuts(volumes):
        return [
            np.take(volumes, side // 2, 1 + axis) for axis, side in enumerate(volumes.shape[1:4])
        ]

    _grid(path, {name: side_by_side(cuts(volumes)) for name, volumes in rows.items()}, 1.6)


def views(path, rows):
    """Scenes, four views of each, evenly spread."""
    shown = {}
    for name, scenes in rows.items():
        some = scenes[:, :: max(1, scenes.shape[1] // 4)][:, :4]
        shown[name] = some.reshape(-1, *scenes.shape[2:])
    gallery(path, shown)


def strips(path, rows):
    """Films, their frames from left to right: all rows of the first, then of the second, ..."""
    names, films = list(rows), len(next(iter(rows.values())))
    lines = films * len(names)
    with figure(path, lines, size=(WIDTH, 0.62 * lines), squeeze=False) as (_, axes):
        for line, ax in enumerate(axes[:, 0]):
            number, name = line // len(names), names[line % len(names)]
            frames = [frame[None] for frame in rows[name][number]]
            _show(ax, side_by_side(frames)[0])
            _name(ax, name, "center")
            if line % len(names) == 0 and films > 1:
                ax.set_title(f"film {number + 1} of {films}", loc="left", fontsize=8)


def maps(path, rows):
    """Fields on the sphere in Mollweide's projection, which keeps areas."""
    columns = len(next(iter(rows.values())))
    size = (WIDTH, 0.5 * WIDTH / columns * len(rows) + 0.25)
    options = {"subplot_kw": {"projection": "mollweide"}, "squeeze": False}
    look = {"cmap": "gist_earth", "vmin": 0, "vmax": 1, "rasterized": True}
    with figure(path, len(rows), columns, size=size, **options) as (_, axes):
        for line, (name, fields) in zip(axes, rows.items(), strict=True):
            for ax, field in zip(line, fields, strict=True):
                height, width = field.shape[:2]
                latitude = np.pi / 2 - np.pi * np.arange(height + 1) / height
                longitude = 2 * np.pi * np.arange(width + 1) / width - np.pi
                ax.pcolormesh(longitude, latitude, field[..., 0], **look)
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
            _name(line[0], name, "center")


def waves(path, rows):
    """Waves, and below each its spectrogram where it is long enough for one."""
    count, samples = next(iter(rows.values())).shape[:2]
    heard = samples >= 2 * WINDOW
    lines = len(rows) * (1 + heard)
    options = {"squeeze": False, "height_ratios": [0.8, 1][: 1 + heard] * len(rows)}
    loudest = [_level(curve).max() for curve in next(iter(rows.values()))]  # of the first row
    with figure(path, lines, count, size=(WIDTH, 0.55 * lines + 0.3), **options) as (_, axes):
        for place, (name, curves) in enumerate(rows.items()):
            upper = axes[place * (1 + heard)]
            for number, (ax, curve) in enumerate(zip(upper, curves, strict=True)):
                ax.plot(curve, lw=0.5, color=COLOURS["latents" if place else "PCA"])
                bare(ax)
                ax.set(ylim=(0, 1), xlim=(0, samples - 1))
                if heard:
                    top, below = loudest[number], axes[2 * place + 1, number]
                    level = _level(curve)[::-1]
                    below.imshow(level, cmap="magma", vmin=top - LOWEST_DB, vmax=top, aspect="auto")
                    bare(below)
            _name(upper[0], name, "top")


def _level(curve):
    """Spectrogram (frequencies from 0 up, times) in dB of a curve (samples, c)."""
    if len(curve) < WINDOW:
        return np.zeros((1, 1))
    options = {"nperseg": WINDOW, "noverlap": WINDOW * 7 // 8, "nfft": 2 * WINDOW}
    _, _, size = spectrogram(curve[:, 0] - 0.5, mode="magnitude", **options)
    return 20 * np.log10(np.maximum(size, 1e-7))


# ---- what they are made of ----


def side_by_side(pictures):
    """Pictures [(m, h, w, c)] of any sizes as (m, highest h, all w, c), white between them."""
    tall = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(picture, ((0, 0), (0, tall - picture.shape[1]), (0, 1), (0, 0)), constant_values=1)
        for picture in pictures
    ]
    return np.concatenate(padded, 2)


def _grid(path, rows, inches):
    """{name: pictures (m, h, w, c)}, names at the left."""
    count = len(next(iter(rows.values())))
    height, width = next(iter(rows.values())).shape[1:3]
    inches = min(inches, (WIDTH - 1.2) / count)
    size = (count * inches + 1.2, len(rows) * inches * height / width)
    with figure(path, len(rows), count, size=size, squeeze=False) as (_, axes):
        for line, (name, shown) in zip(axes, rows.items(), strict=True):
            for ax, one in zip(line, shown, strict=True):
                _show(ax, one)
            _name(line[0], name, "center")


def _show(ax, picture):
    """A picture (h, w, c), floats in [0, 1] or beyond."""
    ax.imshow(as_rgb(np.clip(picture, 0, 1)))
    bare(ax)


def _name(ax, name, at):
    """The name of a row, at the left of its first picture."""
    ax.set_ylabel(wrapped(name), rotation=0, ha="right", va=at, fontsize=8)
