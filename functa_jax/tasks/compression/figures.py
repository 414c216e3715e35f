"""Figures of compression: rate and distortion, and pictures."""

import numpy as np

from functa_jax.images.gallery import gallery
from groundfloor.plots import COLOURS, GREEN, ORANGE, PINK, RED, SKY, WIDTH, figure, legend

MARKERS = "osDv^P"  # of published curves
PUBLISHED = (RED, ORANGE, GREEN, PINK, SKY, "#666666")
MEASURED = {  # colour and line style by method; others are black, in styles of their own
    "latents": (COLOURS["latents"], "-"),
    "PCA": (COLOURS["PCA"], "-"),
    "PCA of 8x8 blocks": (COLOURS["PCA"], "--"),
    "JPEG 4:2:0": (ORANGE, "--"),
    "JPEG 4:4:4": (ORANGE, "-"),
    "JPEG": (ORANGE, "-"),
    "JPEG 2000": (RED, "-"),
    "WebP": (GREEN, "-"),
}


def rate_figure(path, measured, published=()):
    """PSNR against bits per pixel, bare and whole.

    measured: lists of rows as methods.row makes them, ours first; published: published.Curve.
    """
    with figure(path, 1, 2, size=(WIDTH, 4.6), sharey=True) as (made, axes):
        for ax, size, title in (
            (axes[0], "bits/pixel", "without what all files share"),
            (axes[1], "bits/pixel, whole files", "whole files"),
        ):
            for curve in measured:
                rate, psnr = zip(*((row[size], row["PSNR (dB)"]) for row in curve), strict=True)
                name = curve[0]["method"]
                start = max((m for m in MEASURED if name.startswith(m)), key=len, default="PCA")
                colour, line = MEASURED[start]
                style = {"color": colour, "ls": line, "lw": 2 if start == "latents" else 1.2}
                ax.plot(rate, psnr, marker=".", ms=4, zorder=3, label=name, **style)
            for number, other in enumerate(published):
                if other.whole_files != (ax is axes[1]):
                    continue
                style = {"ls": ":", "lw": 0.8, "marker": MARKERS[number % len(MARKERS)]}
                colour = PUBLISHED[number % len(PUBLISHED)]
                style |= {"label": f"{other.method}, published", "color": colour}
                ax.plot(*np.transpose(other.points), ms=4, mfc="none", **style)
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            rates = [row[size] for curve in measured for row in curve]
            ax.set(xlabel="bits per pixel", title=title, xlim=(min(rates) / 3, 1.5 * max(rates)))
        axes[0].set_ylabel("mean of per-image PSNR (dB)")
        legend(made, axes, loc="outside lower center", ncols=3)


def picture_figure(path, originals, points, pixels):
    """Rows: originals (m, h, w, C), then pictures of Points, with rate and dB of all images."""
    rows = {"original\n8 bits/number": originals / 255}
    for point in points:
        rate = 8 * point.bare / pixels
        name = f"{point.method}\n{point.setting}: {rate:.2f} bpp, {point.psnr:.1f} dB"
        rows[name] = point.pictures / 255
    gallery(path, rows)
