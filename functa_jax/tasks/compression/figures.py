"""Figures of compression: rate and distortion, and pictures."""

import numpy as np

from functa_jax.images.gallery import gallery
from groundfloor.plots import figure

RATES = (0.125, 10)  # bits per pixel that are drawn
MARKERS = "osDv^P"  # of published curves, in the colours C0, C1, ...
COLOURS = ("k", "0.35", "0.65", "C8", "C9", "C6", "navy")  # of measured curves


def rate_figure(path, measured, published=()):
    """PSNR against bits per pixel, bare and whole.

    measured: lists of rows as methods.row makes them, ours first; published: published.Curve.
    """
    with figure(path, 1, 2, size=(10.5, 4.2), sharey=True) as (made, axes):
        handles = {}
        for ax, size, title in (
            (axes[0], "bits/pixel", "without what all files share"),
            (axes[1], "bits/pixel, whole files", "whole files"),
        ):
            for number, curve in enumerate(measured):
                rate, psnr = zip(*((row[size], row["PSNR (dB)"]) for row in curve), strict=True)
                style = {"color": COLOURS[number % len(COLOURS)], "lw": 1.2 if number else 2}
                line, *_ = ax.plot(rate, psnr, marker=".", ms=4, zorder=3, **style)
                handles[curve[0]["method"]] = line
            for number, other in enumerate(published):
                if other.whole_files != (ax is axes[1]):
                    continue
                style = {"ls": ":", "lw": 0.8, "marker": MARKERS[number % len(MARKERS)]}
                line, *_ = ax.plot(
                    *np.transpose(other.points), **style, ms=4, mfc="none", color=f"C{number}"
                )
                handles[f"{other.method}, published"] = line
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set(xlabel="bits per pixel", title=title, xlim=RATES)
        axes[0].set_ylabel("mean of per-image PSNR (dB)")
        made.legend(handles.values(), handles, fontsize=8, loc="outside center right")


def picture_figure(path, originals, points, pixels):
    """Rows: originals (m, h, w, C), then pictures of Points, with rate and dB of all images."""
    rows = {"original\n8 bits/number": originals / 255}
    for point in points:
        rate = 8 * point.bare / pixels
        name = f"{point.method}\n{point.setting}: {rate:.2f} bpp, {point.psnr:.1f} dB"
        rows[name] = point.pictures / 255
    gallery(path, rows)
