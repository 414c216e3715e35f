"""Pictures of functions on a lattice: each row a way to know them, each column a function.

    draw(path, "voxels", (32, 32, 32), {"truth": values, "functa\n0.82 IoU": rebuilt})

Solids are shaded surfaces, fields maps in Mollweide's equal-area projection, sound waves above
their spectrograms, films strips of frames. Names of rows say how good they are, and of what.
"""

import numpy as np
from scipy.signal import spectrogram

from functa_jax.images.gallery import gallery, wrapped
from functa_jax.images.signals import to_float
from functa_jax.modalities import isosurface
from groundfloor.plots import COLOURS, WIDTH, bare, figure

LOWEST_DB = 50  # of a spectrogram, below its loudest
WINDOW = 128  # samples of a spectrum in it


def draw(path, modality, lattice, rows, texts=None):
    """Write a picture of {name: values (m, N, c), uint8 or floats about [0, 1]} in C order.

    texts: {name: [m lines to stand above its pictures]}. Returns whether such functions have a
    picture: of one, two or three dimensions on a lattice.
    """
    if lattice is None or len(lattice) > 3:
        return False
    rows = {
        name: to_float(values).reshape(len(values), *lattice, -1) for name, values in rows.items()
    }
    kinds = {"voxels": solids, "sphere": maps, "sound": waves, "video": strips, "scenes": views}
    own = kinds.get(modality) or {1: waves, 2: pictures, 3: slices}[len(lattice)]
    own(path, rows, texts or {})
    return True


def described(name, metric, unit, values):
    """Of a row: its name and the mean (n,) of a metric."""
    digits = 3 if not unit else 1
    return f"{name}\n{metric} {np.mean(values):.{digits}f} {unit}".rstrip()


# ---- by modality: (path, {name: (m, *lattice, c)}, {name: [text]}) ----


def solids(path, rows, texts):
    """Shaded surfaces at one half."""
    shown = {
        name: np.stack([isosurface.picture(field[..., 0]) for field in fields])
        for name, fields in rows.items()
    }
    _grid(path, shown, texts, 1.15)


def pictures(path, rows, texts):
    """Functions of two dimensions, as images."""
    gallery(path, rows)


def slices(path, rows, texts):
    """The middle slice of each dimension, side by side."""
    shown = {
        name: np.stack([_middle_slices(volume) for volume in volumes])
        for name, volumes in rows.items()
    }
    _grid(path, shown, texts, 1.6)


def _middle_slices(volume):
    sides = volume.shape[:3]
    cuts = [np.take(volume, side // 2, axis) for axis, side in enumerate(sides)]
    tall = max(cut.shape[0] for cut in cuts)
    padded = [
        np.pad(cut, ((0, tall - len(cut)), (0, 1), (0, 0)), constant_values=1) for cut in cuts
    ]
    return np.concatenate(padded, 1)


def views(path, rows, texts):
    """Scenes, four views of each, evenly spread."""
    shown = {}
    for name, scenes in rows.items():
        some = scenes[:, :: max(1, scenes.shape[1] // 4)][:, :4]
        shown[name] = some.reshape(-1, *scenes.shape[2:])
    gallery(path, shown)


def strips(path, rows, texts):
    """Films, their frames from left to right: all rows of the first, then of the second, ..."""
    films = len(next(iter(rows.values())))
    with figure(path, films * len(rows), size=(WIDTH, 0.62 * films * len(rows)), squeeze=False) as (
        _,
        axes,
    ):
        for number in range(films):
            for place, (name, frames) in enumerate(rows.items()):
                ax = axes[number * len(rows) + place, 0]
                gap = ((0, 0), (0, 0), (0, 1), (0, 0))
                strip = np.concatenate(
                    np.pad(frames[number], gap[: frames[number].ndim], constant_values=1), 1
                )
                ax.imshow(_colours(strip))
                bare(ax)
                own = texts.get(name, [""] * films)[number]
                label = f"{name.splitlines()[0]} {own}" if own else name
                ax.set_ylabel(wrapped(label), rotation=0, ha="right", va="center", fontsize=7)


def maps(path, rows, texts):
    """Fields on the sphere in Mollweide's projection, which keeps areas."""
    columns = len(next(iter(rows.values())))
    size = (WIDTH, 0.5 * WIDTH / columns * len(rows) + 0.25)
    options = {"subplot_kw": {"projection": "mollweide"}, "squeeze": False}
    with figure(path, len(rows), columns, size=size, **options) as (_, axes):
        for line, (name, fields) in zip(axes, rows.items(), strict=True):
            for number, (ax, field) in enumerate(zip(line, fields, strict=True)):
                height, width = field.shape[:2]
                latitude = np.pi / 2 - np.pi * np.arange(height + 1) / height
                longitude = 2 * np.pi * np.arange(width + 1) / width - np.pi
                ax.pcolormesh(
                    longitude,
                    latitude,
                    field[..., 0],
                    cmap="gist_earth",
                    vmin=0,
                    vmax=1,
                    rasterized=True,
                )
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
                if texts.get(name):
                    ax.set_title(texts[name][number], fontsize=7, pad=2)
            line[0].set_ylabel(wrapped(name), rotation=0, ha="right", va="center", fontsize=8)


def waves(path, rows, texts):
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
                if texts.get(name):
                    ax.set_title(texts[name][number], fontsize=7, pad=2)
                if heard:
                    top, below = loudest[number], axes[2 * place + 1, number]
                    level = _level(curve)[::-1]
                    below.imshow(level, cmap="magma", vmin=top - LOWEST_DB, vmax=top, aspect="auto")
                    bare(below)
            upper[0].set_ylabel(wrapped(name), rotation=0, ha="right", va="top", fontsize=8)


def _level(curve):
    """Spectrogram (frequencies from 0 up, times) in dB of a curve (samples, c)."""
    if len(curve) < WINDOW:
        return np.zeros((1, 1))
    options = {"nperseg": WINDOW, "noverlap": WINDOW * 7 // 8, "nfft": 2 * WINDOW}
    _, _, size = spectrogram(curve[:, 0] - 0.5, mode="magnitude", **options)
    return 20 * np.log10(np.maximum(size, 1e-7))


# ---- what they are made of ----


def _grid(path, rows, texts, inches):
    """{name: pictures (m, h, w, c)}, texts above the pictures, names at the left."""
    count = len(next(iter(rows.values())))
    height, width = next(iter(rows.values())).shape[1:3]
    inches = min(inches, (WIDTH - 1.2) / count)
    size = (count * inches + 1.2, len(rows) * (inches * height / width + 0.15 * bool(texts)))
    with figure(path, len(rows), count, size=size, squeeze=False) as (_, axes):
        for line, (name, shown) in zip(axes, rows.items(), strict=True):
            for number, (ax, one) in enumerate(zip(line, shown, strict=True)):
                ax.imshow(_colours(one))
                bare(ax)
                if texts.get(name):
                    ax.set_title(texts[name][number], fontsize=7, pad=1)
            line[0].set_ylabel(wrapped(name), rotation=0, ha="right", va="center", fontsize=8)


def _colours(picture):
    """uint8 or floats (h, w, 1 or 3) as what imshow shows alike."""
    picture = to_float(picture)
    return np.clip(np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)), 0, 1)
