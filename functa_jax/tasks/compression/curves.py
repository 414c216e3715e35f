"""Rate and distortion: the curves of a codec at several bits, of JPEG and of WebP.

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

BITS = (3, 4, 5, 6, 7, 8)
PCA_BITS = (*BITS, 9, 10, 11)  # its first number's range is far wider than the others'
QUALITIES = {"JPEG": (5, 10, 20, 35, 50, 65, 80, 90, 95), "WebP": (0, 10, 25, 50, 70, 85, 95, 100)}
CHANNELS = {"JPEG": (1, 3), "WebP": (1, 3, 4)}  # that such a file can hold
WEBP_FRAME_HEADER = 10  # but for sizes the same in all files, as RIFF's and the chunks' are
FLOOR = 1 / 12 / 255**2  # the error of rounding to 8 bits: no PSNR counts more than 58.9 dB


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
