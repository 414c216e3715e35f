"""The pictures of the comparison: single-image networks beside a functa and PCA."""

import numpy as np

from functa_jax.evaluation.reconstruction import mean_psnr
from functa_jax.images.gallery import gallery
from functa_jax.single.fit_figures import EXACT, shown
from groundfloor.plots import COLOURS, GREY, WIDTH, figure, legend, logarithmic, ordered


def comparison(path, result, data):
    """Single-image networks, the functa and PCA: PSNR against numbers, and against time.

    A network's depth and frequency are those that were best on validation at its size, so that they
    may change from point to point: w and d are its width and depth.
    """
    from matplotlib.ticker import ScalarFormatter

    sirens = [row for row in result.rows if row["compared"] in ("equal numbers", "more numbers")]
    pca = [row for row in result.rows if row["method"] == "PCA"]
    with figure(path, 1, 2, size=(WIDTH, 4.1), sharey=True) as (made, (left, right)):
        for rows, style, colour, name in (
            (pca, "s--", COLOURS["PCA"], "PCA, shared basis"),
            (sirens, "o-", COLOURS["SIREN"], "SIREN, one per image, best shape of its size"),
        ):
            x, y = ([row[key] for row in rows] for key in ("numbers", "psnr"))
            left.plot(x, shown(y), style, color=colour, lw=1.2, label=name)
        for row in sirens:
            place, words = (row["numbers"], shown(row["psnr"])), f"w{row['width']} d{row['depth']}"
            left.annotate(words, place, (4, -9), textcoords="offset points", fontsize=7)
        for row in (row for row in result.rows if row["method"] == "functa"):
            style = {"color": COLOURS["functa"], "ms": 12, "label": "functa, shared weights"}
            left.plot(row["numbers"], row["psnr"], "*", **style)
        numbers = np.prod(data.test.images.shape[1:])
        left.axvline(numbers, color=GREY, ls=":", lw=1, label="numbers in the image")
        left.set_xscale("log", base=2)
        left.xaxis.set_major_formatter(ScalarFormatter())
        left.set_xlabel("numbers per image")
        left.set_ylabel(f"mean PSNR (dB, cut at {EXACT:.0f})")

        networks = [course for course in result.courses if course["method"] == "SIREN"]
        for course in result.courses:
            _, seconds, psnr = np.transpose(course["course"])
            siren = course["method"] == "SIREN"
            label = f"SIREN, {course['numbers']} numbers"
            style = {"color": COLOURS["functa"], "marker": "*"}
            if siren:
                style = {"color": ordered(networks.index(course), len(networks))}
            else:
                label = "functa, 1 to 10 steps (its training, shared by all images, not counted)"
            start = int(siren)  # a network's first point took no time
            right.plot(1e3 * seconds[start:], shown(psnr[start:]), lw=1.2, label=label, **style)
        right.set(xlabel="milliseconds per image")
        logarithmic(right, "x")
        legend(made, (left, right), loc="outside lower center", ncols=2)


def galleries(path, pictures):
    """Rows of images (m, h, w, C) by name, each with its mean PSNR against the first row."""
    original, rows = pictures["original"], {}
    for name, images in pictures.items():
        if name != "original":
            psnr = mean_psnr(((images - original) ** 2).mean(axis=(1, 2, 3)))
            name += f"\nover {EXACT:.0f} dB" if psnr > EXACT else f"\n{psnr:.1f} dB"
        rows[name] = images
    gallery(path, rows)
