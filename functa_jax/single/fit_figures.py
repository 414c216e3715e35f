"""The pictures of functa_jax.fit_images."""

import itertools

import numpy as np
from scipy import ndimage

from functa_jax.evaluation.reconstruction import mean_psnr
from functa_jax.images import resize, signals
from functa_jax.model.siren import coordinate_grid
from functa_jax.single import sirens
from groundfloor.plots import (
    BLACK,
    PALETTE,
    WIDTH,
    bare,
    figure,
    legend,
    logarithmic,
)

MOST_IMAGES = 4  # in a picture
FACTORS = (2, 4)  # of super-resolution
BOX = (0.375, 0.375, 0.625, 0.625)  # of the zoom: top, left, bottom, right
EXACT = 60.0  # dB, the top of axes: beyond it a picture is exact to the eye


def grid(run, config, full, images, fits):
    """All figures of the grid; returns rows of super-resolution, for the summary.

    full: uint8 (n, h, w, C); images: {size: reduced ones}; fits: {cell: sirens.Fit}.
    """
    channels = full.shape[-1]
    whole = signals.to_float(full)

    def path(name):
        return run.path("figures", f"{name}.png")

    psnr_parameters(path("psnr_parameters"), config, fits, images)
    psnr_steps(path("psnr_steps"), fits)

    def best(size):
        """The cell of this size with the highest PSNR, and its networks of the first seed."""
        cell = max(
            (cell for cell in fits if cell.size == size),
            key=lambda cell: mean_psnr(fits[cell].errors[-1]),
        )
        weights = fits[cell].weights[:: len(config.seeds)][:MOST_IMAGES]
        return cell.shape(config, channels), weights

    largest = max(config.sizes)
    derivatives(path("derivatives"), images[largest][:MOST_IMAGES], *best(largest))
    size = _to_enlarge(config.sizes, min(full.shape[1:3]))
    sources = (whole[:MOST_IMAGES], images[size][:MOST_IMAGES], *best(size))
    zooms(path("zooms"), *sources)
    return superresolution(path("superresolution"), *sources)


def _to_enlarge(sizes, shorter):
    """The largest size that leaves room for the largest factor in the original, if one does."""
    for factor in reversed(FACTORS):
        fitting = [size for size in sizes if size * factor <= shorter]
        if fitting:
            return max(fitting)
    return min(sizes)


def psnr_parameters(path, config, fits, images):
    """PSNR against parameters: a panel per size, a line per depth."""
    sizes = sorted({cell.size for cell in fits})
    options = {"sharey": True, "squeeze": False}
    with figure(path, 1, len(sizes), size=(WIDTH, 2.9), **options) as (made, axes):
        for ax, size in zip(axes[0], sizes, strict=True):
            _, height, width, channels = images[size].shape
            for depth in sorted({cell.depth for cell in fits}):
                cells = [c for c in fits if (c.size, c.depth) == (size, depth)]
                cells.sort(key=lambda cell: cell.width)
                x = [cell.shape(config, channels).parameters for cell in cells]
                y = [shown(mean_psnr(fits[cell].errors[-1])) for cell in cells]
                ax.plot(x, y, "o-", ms=4, label=f"depth {depth}")
            ax.axvline(
                height * width * channels, color=BLACK, ls=":", lw=1, label="numbers in image"
            )
            ax.set(xscale="log", xlabel="parameters", title=f"{height}×{width}")
        axes[0][0].set_ylabel(f"mean PSNR (dB, cut at {EXACT:.0f})")
        legend(made, axes)


def psnr_steps(path, fits):
    """PSNR against steps, from the first on: a panel per size, colours for widths, dashes for
    depths."""
    sizes = sorted({cell.size for cell in fits})
    widths, depths = (sorted({cell[place] for cell in fits}) for place in (1, 2))
    dashes = dict(zip(depths, itertools.cycle((":", "--", "-", "-.")), strict=False))
    options = {"sharey": True, "squeeze": False}
    with figure(path, 1, len(sizes), size=(WIDTH, 3.2), **options) as (made, axes):
        for ax, size in zip(axes[0], sizes, strict=True):
            for cell, fit in fits.items():
                if cell.size == size:
                    label = f"width {cell.width}, depth {cell.depth}"
                    color = PALETTE[widths.index(cell.width) % len(PALETTE)]
                    y, later = shown(mean_psnr(fit.errors.T)), np.greater(fit.steps, 0)
                    style = {"color": color, "ls": dashes[cell.depth], "lw": 1.2, "label": label}
                    ax.plot(np.asarray(fit.steps)[later], y[later], **style)
            logarithmic(ax, "x")
            ax.set(xlabel="steps", title=f"shorter side {size}")
        axes[0][0].set_ylabel(f"mean PSNR (dB, cut at {EXACT:.0f})")
        legend(made, axes)


def derivatives(path, images, shape, weights):
    """Image, fit, and their gradients and Laplacians, of the mean over channels, per pixel."""
    height, width = images.shape[1:3]
    fitted = sirens.pictures(shape, weights, height, width)
    side = WIDTH / 6
    size = (WIDTH, side * height / width * len(images) + 0.5)
    names = ("image", "fit", "|∇| differences", "|∇| of the fit", "Δ differences", "Δ of the fit")
    with figure(path, len(images), 6, size=size, squeeze=False) as (_, axes):
        for row, image, picture, one in zip(axes, images, fitted, weights, strict=True):
            steep, curved = field_derivatives(shape, one, height, width)
            grey = image.mean(axis=-1)
            steep_image = np.hypot(*np.gradient(grey))
            curved_image = ndimage.laplace(grey, mode="nearest")
            show(row[0], image)
            show(row[1], picture, f"{_psnr(picture, image):.1f} dB")
            top = np.percentile(steep_image, 99)
            bound = np.percentile(np.abs(curved_image), 99)
            for ax, values in zip(row[2:4], (steep_image, steep), strict=True):
                show(ax, values, low=0, high=top)
            for ax, values in zip(row[4:], (curved_image, curved), strict=True):
                show(ax, values, low=-bound, high=bound)
        for ax, name in zip(axes[0], names, strict=True):
            ax.set_title(name, fontsize=9)


def field_derivatives(shape, weights, height, width):
    """(|gradient|, Laplacian) of a network's mean over channels, per pixel: (height, width) each.

    Exact derivatives at pixel centres; a pixel is 1/height by 1/width of the coordinates.
    """
    gradient, hessian = sirens.derivatives(shape, weights, coordinate_grid(height, width))
    pixel = np.array([1 / height, 1 / width])
    steep = np.linalg.norm(np.mean(gradient, axis=1) * pixel, axis=-1)
    curved = (np.mean(np.diagonal(hessian, axis1=2, axis2=3), axis=1) * pixel**2).sum(axis=-1)
    return steep.reshape(height, width), curved.reshape(height, width)


def superresolution(path, full, images, shape, weights):
    """Fits of reduced images rendered larger, beside cubic splines and the original.

    Returns [{"factor", "image", "siren_psnr", "spline_psnr"}], dB, None where the original is
    smaller.
    """
    height, width = images.shape[1:3]
    columns, rows = [], []
    for factor in FACTORS:
        fine = factor * height, factor * width
        fitted = sirens.pictures(shape, weights, *fine)
        smooth = resize.enlarge(images, factor)
        has_original = fine[0] <= full.shape[1] and fine[1] <= full.shape[2]
        truth = resize.reduce(full, *fine) if has_original else [None] * len(images)
        columns.append((factor, smooth, fitted, truth))
        for number, (spline, siren, original) in enumerate(zip(smooth, fitted, truth, strict=True)):
            scores = [None, None]
            if has_original:
                scores = [_psnr(siren, original), _psnr(spline, original)]
            row = {"factor": factor, "image": number, "from": f"{height}x{width}"}
            rows.append({**row, "siren_psnr": scores[0], "spline_psnr": scores[1]})
    _enlarged(path, images, columns, rows)
    return rows


def _enlarged(path, images, columns, rows):
    """A line an image: what was fitted, then for each factor spline, SIREN and original."""
    height, width = images.shape[1:3]
    scores = {(row["factor"], row["image"]): row for row in rows}
    shown = [c for c in columns if c[3][0] is not None] or columns
    count = 1 + sum(3 if truth[0] is not None else 2 for *_, truth in shown)
    side = WIDTH / count
    size = (WIDTH, (side * height / width + 0.4) * len(images) + 0.3)
    with figure(path, len(images), count, size=size, squeeze=False) as (_, axes):
        for number, line in enumerate(axes):
            line = iter(line)
            show(next(line), images[number], f"fitted\n{height}×{width}")
            for factor, smooth, fitted, truth in shown:
                row = scores[factor, number]
                show(next(line), smooth[number], f"spline ×{factor}" + _dB(row["spline_psnr"]))
                show(next(line), fitted[number], f"SIREN ×{factor}" + _dB(row["siren_psnr"]))
                if truth[0] is not None:
                    show(next(line), truth[number], f"original ×{factor}")


def zooms(path, full, images, shape, weights, factor=8):
    """The middle of the picture, `factor` times larger than it was fitted."""
    height, width = images.shape[1:3]
    top, left, bottom, right = BOX
    rows, columns = (
        round((high - low) * side * factor)
        for low, high, side in ((top, bottom, height), (left, right, width))
    )
    fitted = sirens.pictures(shape, weights, rows, columns, BOX)
    names = ("image", "pixels", f"cubic spline ×{factor}", f"SIREN ×{factor}", "original")
    side = WIDTH / 5
    size = (WIDTH, side * height / width * len(images) + 0.35)
    with figure(path, len(images), 5, size=size, squeeze=False) as (_, axes):
        for row, original, image, siren in zip(axes, full, images, fitted, strict=True):
            show(row[0], original)
            place = (left * original.shape[1], top * original.shape[0])
            sides = ((right - left) * original.shape[1], (bottom - top) * original.shape[0])
            row[0].add_patch(_box(place, sides))
            spline = resize.enlarge(image[None], factor)[0]
            for ax, picture in zip(row[1:], (image, spline, siren, original), strict=True):
                show(ax, picture if picture is siren else _crop(picture))
        for ax, name in zip(axes[0], names, strict=True):
            ax.set_title(name, fontsize=9)


def _box(place, sides):
    from matplotlib.patches import Rectangle

    return Rectangle(place, *sides, fill=False, color="red", lw=1)


def _crop(picture):
    """The pixels that BOX touches most, of a picture (h, w, C)."""
    height, width = picture.shape[:2]
    top, left, bottom, right = np.round(BOX * np.array([height, width] * 2)).astype(int)
    return picture[top : max(bottom, top + 1), left : max(right, left + 1)]


def show(ax, picture, below=None, low=0.0, high=1.0):
    """A picture (h, w[, C]) without axes; grey levels from `low` to `high`."""
    if picture.ndim == 3:
        picture = np.clip(picture[..., 0] if picture.shape[-1] == 1 else picture, 0, 1)
    ax.imshow(picture, vmin=low, vmax=high)
    bare(ax)
    if below:
        ax.set_xlabel(below, fontsize=8, labelpad=2)


def _psnr(picture, original):
    """dB, of what is shown: clipped to [0, 1]."""
    return float(mean_psnr([np.mean((np.clip(picture, 0, 1) - original) ** 2)]))


def _dB(psnr):
    return "" if psnr is None else f"\n{psnr:.2f} dB"


def shown(psnr):
    """PSNR in dB as it is drawn: at most EXACT."""
    return np.minimum(psnr, EXACT)
