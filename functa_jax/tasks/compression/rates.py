"""Rate and distortion: the curves of a codec at several bits, of JPEG and of WebP; their pictures.

A curve is a list of Points. Its bytes are told twice, whole and bare: without what is the same in
every file of a kind, as it would be left out where many files have one reader.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from functa_jax.evaluation import reconstruction
from functa_jax.tasks.compression import codec
from groundfloor.plots import figure

BITS = (3, 4, 5, 6, 7, 8)
PCA_BITS = (*BITS, 9, 10, 11)  # its first number's range is far wider than the others'
QUALITIES = {
    "JPEG": (5, 10, 20, 35, 50, 65, 80, 90, 95),
    "WebP": (0, 10, 25, 50, 70, 85, 95, 100),
}
CHANNELS = {"JPEG": (1, 3), "WebP": (1, 3, 4)}  # that such a file can hold
WEBP_FRAME_HEADER = 10  # but for sizes the same in all files, as RIFF's and the chunks' are
FLOOR = 1 / 12 / 255**2  # the error of rounding to 8 bits: no PSNR counts more than 58.9 dB
COIN = (  # bits per pixel, dB: COIN++ on CIFAR-10, quantised and entropy coded (its results/)
    *((0.548, 24.22), (1.10, 27.03), (1.65, 28.90), (2.20, 30.45)),
    *((3.29, 32.42), (4.06, 33.69), (5.41, 35.26)),
)


@dataclass(frozen=True, eq=False)
class Point:
    """A method at one setting: bytes for all images, mean of per-image PSNR (dB), and a few of the
    pictures uint8 (m, h, w, C)."""

    method: str
    setting: str
    bare: int
    whole: int
    psnr: float
    pictures: np.ndarray


def mean_psnr(pictures, images):
    """Mean of per-image PSNR in dB, of uint8 images (n, h, w, C); none counts above 58.9 dB."""
    errors = (pictures.reshape(images.shape) / 255.0 - images / 255.0) ** 2
    errors = errors.reshape(len(images), -1).mean(axis=1)
    return float(reconstruction.mean_psnr(np.maximum(errors, FLOOR)))


def to_bytes(pictures):
    """Pictures, about [0, 1], clipped and rounded to uint8."""
    return np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)


def quantised(method, train, rows, weights, render, images, shown, levels):
    """The curve of codec.fit at all `levels`, in bits.

    train (m, d): numbers that set ranges and frequencies; rows (n, d): those of images (n, h, w, C)
    uint8; weights (d,): as codec.fit takes them; render: rows -> uint8 images; shown: which of them
    to keep.
    """
    curve = []
    for bits in levels:
        coder = codec.fit(train, bits, weights)
        data, sizes = codec.packed("0" * 16, coder, rows)
        pictures = render(coder.dequantise(coder.quantise(rows)))
        psnr = mean_psnr(pictures, images)
        setting = f"{bits} bits"
        curve.append(Point(method, setting, sizes.payload, len(data), psnr, pictures[shown]))
    return curve


def standard(method, images, shown):
    """The curve of JPEG or WebP at all QUALITIES: each image in a file of its own."""
    curve = []
    for quality in QUALITIES[method]:
        files = [one_file(method, image, quality) for image in images]
        bare, whole, pictures = zip(*files, strict=True)
        pictures = np.stack(pictures)
        setting, psnr = f"quality {quality}", mean_psnr(pictures, images)
        curve.append(Point(method, setting, sum(bare), sum(whole), psnr, pictures[shown]))
    return curve


def one_file(method, image, quality):
    """(bytes without header, bytes of the file, what is decoded) of an image (h, w, C) uint8."""
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    if method == "JPEG":
        data = _saved(picture, "JPEG", quality=quality)
        bare = jpeg_scan_bytes(data)
        # Huffman tables of its own make a file smaller, and leave no header that files share.
        whole = len(_saved(picture, "JPEG", quality=quality, optimize=True))
    else:
        whole_colour = picture if picture.mode == "RGBA" else picture.convert("RGB")
        # exact: what no one sees where alpha is 0 counts here as every number does.
        data = _saved(whole_colour, "WEBP", quality=quality, method=6, exact=True)
        bare, whole = webp_data_bytes(data), len(data)
    decoded = Image.open(io.BytesIO(data)).convert(picture.mode)
    return bare, whole, np.asarray(decoded).reshape(image.shape)


def _saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def jpeg_scan_bytes(data):
    """Bytes of a baseline JPEG file between its header and its end marker (ITU T.81, annex B)."""

    def skip(place):
        return place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")

    place = 2  # after the start marker
    while data[place : place + 2] != b"\xff\xda":  # start of scan
        place = skip(place)
    return len(data) - skip(place) - 2


def webp_data_bytes(data):
    """Bytes of a lossy WebP file without headers: its colours and, if it has one, its alpha."""
    place, total = 12, -WEBP_FRAME_HEADER  # after RIFF's header
    while place < len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        size += size % 2
        if data[place : place + 4] in (b"VP8 ", b"ALPH"):
            total += size
        place += 8 + size
    return total


def bytes_at(curve, psnr, size):
    """Bytes of a curve at `psnr` dB, linear between its points; None out of their range.

    size: "bare" or "whole".
    """
    points = sorted((point.psnr, getattr(point, size)) for point in curve)
    if not points[0][0] <= psnr <= points[-1][0]:
        return None
    return float(np.interp(psnr, *np.transpose(points)))


def pays_from(shared, ours, theirs):
    """From how many images on `shared` bytes and `ours` each are fewer than `theirs` each, or None.

    The smallest whole n with shared + n ours < n theirs.
    """
    return math.floor(shared / (theirs - ours)) + 1 if theirs > ours else None


# ---- figures ----


def rate_figure(path, curves, pixels, published=()):
    """PSNR against bits per pixel (of `pixels` in all), bare and whole; published: more points."""
    with figure(path, 1, 2, size=(8.8, 3.5), sharey=True) as (_, axes):
        for ax, size, title in (
            (axes[0], "bare", "without what all files share"),
            (axes[1], "whole", "whole files"),
        ):
            for curve in curves:
                method = curve[0].method
                rate = [8 * getattr(point, size) / pixels for point in curve]
                own = {"color": "k", "ls": "--"} if method.startswith("PCA") else {}
                marker = "s" if method in QUALITIES else "o"
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
    rows = [("original\n8 bits/number", originals)]
    for point in points:
        rate = 8 * point.bare / pixels
        name = f"{point.method}\n{point.setting}: {rate:.2f} bpp, {point.psnr:.1f} dB"
        rows.append((name, point.pictures))
    count = len(originals)
    with figure(
        path, len(rows), count, size=(0.7 * count + 2.0, 0.74 * len(rows)), squeeze=False
    ) as (_, axes):
        for line, (name, pictures) in zip(axes, rows, strict=True):
            for ax, picture in zip(line, pictures, strict=True):
                ax.imshow(picture.squeeze(), vmin=0, vmax=255)
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
                ax.spines[:].set_visible(False)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
