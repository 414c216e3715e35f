"""Figures of compression: rate and distortion, and pictures."""

import numpy as np

from functa_jax.images.gallery import gallery
from functa_jax.tasks.compression import curves
from groundfloor.plots import figure

COIN = (  # bits per pixel, dB: COIN++ on CIFAR-10, quantised and entropy coded (its results/)
    (0.548, 24.22),
    (1.10, 27.03),
    (1.65, 28.90),
    (2.20, 30.45),
    (3.29, 32.42),
    (4.06, 33.69),
    (5.41, 35.26),
)


def rate_figure(path, measured, pixels, published=()):
    """PSNR against bits per pixel (of `pixels` in all), bare and whole; published: more points."""
    with figure(path, 1, 2, size=(8.8, 3.5), sharey=True) as (_, axes):
        for ax, size, title in (
            (axes[0], "bare", "without what all files share"),
            (axes[1], "whole", "whole files"),
        ):
            for curve in measured:
                method = curve[0].method
                rate = [8 * getattr(point, size) / pixels for point in curve]
                own = {"color": "k", "ls": "--"} if method.startswith("PCA") else {}
                marker = "s" if method in curves.QUALITIES else "o"
                ax.plot(rate, [p.psnr for p in curve], marker=marker, ms=3, lw=1.2, **own)
                ax.lines[-1].set_label(method)
            if published and size == "bare":
                ax.plot(*np.transpose(published), "*", color="C7", label="COIN++ (published)")
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set(xlabel="bits per pixel", title=title)
        shades = [line for ax in axes for line in ax.lines if line.get_label().startswith("PCA")]
        for line, shade in zip(shades, ("0.55", "k") * 2, strict=False):
            line.set_color(shade)
        axes[0].set_ylabel("mean of per-image PSNR (dB)")
        handles, labels = axes[0].get_legend_handles_labels()
        axes[1].legend(handles, labels, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def picture_figure(path, originals, points, pixels):
    """Rows: originals (m, h, w, C), then pictures of Points, with rate and dB of all images."""
    rows = {"original\n8 bits/number": originals / 255}
    for point in points:
        rate = 8 * point.bare / pixels
        name = f"{point.method}\n{point.setting}: {rate:.2f} bpp, {point.psnr:.1f} dB"
        rows[name] = point.pictures / 255
    gallery(path, rows)
