"""Rate and distortion: the curves of a codec at several steps, of JPEG, JPEG 2000 and WebP.

A curve is a list of Points. Its bytes are told twice, whole and bare: without what is the same in
every file of a kind, as it would be left out where many files have one reader.
"""

import io
import math
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from functa_jax.evaluation import reconstruction
from functa_jax.tasks.compression import codec

CHROMA = {"JPEG 4:2:0": 2, "JPEG 4:4:4": 0}  # colours at half the resolution, or at all of it
# JPEG 2000: the dB that the file aims at.
QUALITIES = {
    "JPEG 4:2:0": (5, 15, 30, 50, 70, 90),
    "JPEG 4:4:4": (5, 15, 30, 50, 70, 90),
    "JPEG 2000": (20, 24, 28, 32, 36),
    "WebP": (0, 20, 50, 75, 90, 100),
}
CHANNELS = {"JPEG 4:2:0": (3,), "JPEG 4:4:4": (1, 3), "JPEG 2000": (1, 3, 4), "WebP": (1, 3, 4)}
TIMED = 256  # images whose encoding and decoding are timed
WEBP_FRAME_HEADER = 10  # but for sizes the same in all files, as RIFF's and the chunks' are
FLOOR = 1 / 12 / 255**2  # the error of rounding to 8 bits: no PSNR counts more than 58.9 dB


@dataclass(frozen=True, eq=False)
class Point:
    """A method at one setting: bytes for all images, mean of per-image PSNR (dB), a few of the
    pictures uint8 (m, h, w, C), seconds of a processor to encode an image and to decode one, and
    whether a learned basis, which no file holds, would count beside it as a network does."""

    method: str
    setting: str
    bare: int
    whole: int
    psnr: float
    pictures: np.ndarray
    encode_seconds: float
    decode_seconds: float
    basis_apart: bool = False


def mean_psnr(pictures, images):
    """Mean of per-image PSNR in dB, of uint8 images (n, h, w, C); none counts above 58.9 dB."""
    errors = (pictures.reshape(images.shape) / 255.0 - images / 255.0) ** 2
    errors = errors.reshape(len(images), -1).mean(axis=1)
    return float(reconstruction.mean_psnr(np.maximum(errors, FLOOR)))


def coded(method, coder, grids, images, shown, step, fit, render, *, basis=True):
    """The Point of all images in one file of a codec.Codec.

    grids: what is coded, of images; step: of the quantiser, in grey levels; fit: images -> grids;
    render: grids -> pictures uint8; basis: whether the transform counts in whole files. Seconds are
    those of TIMED images, from pixels to bytes and back.
    """
    coordinates = coder.transform.apply(grids)
    codec.say_clipped(coder, coordinates, method)
    chosen = coder.choose(coordinates)
    payload = coder.encode(*chosen)
    pictures = render(coder.dequantise(*chosen[:2]))
    few = images[:TIMED]
    render(fit(few))  # compiles
    began = time.process_time()
    little = coder.encode(*coder.choose(coder.transform.apply(fit(few))))
    encoded = time.process_time()
    render(coder.dequantise(*coder.decode(little, len(few))))
    ended = time.process_time()
    counted = coder if basis else codec.without_basis(coder)
    _, sizes = codec.packed("0" * 16, counted, len(images), payload)
    return Point(
        method,
        f"step {step:g}",
        sizes.payload,
        sizes.payload + sizes.fixed,
        mean_psnr(pictures, images),
        pictures[shown],
        (encoded - began) / len(few),
        (ended - encoded) / len(few),
        basis_apart=not basis,
    )


def standard(method, quality, images, shown):
    """The Point of all images in files of their own, at one quality."""
    began = time.process_time()
    files = [one_file(method, image, quality) for image in images]
    encoded = time.process_time()
    pictures = np.stack([decoded(data, image) for data, image in zip(files, images, strict=True)])
    ended = time.process_time()
    if method in CHROMA:
        # Huffman tables of its own make a file smaller, and leave no header that files share.
        whole = sum(len(one_file(method, image, quality, optimize=True)) for image in images)
    else:
        whole = sum(map(len, files))
    return Point(
        method,
        f"{quality} dB" if method == "JPEG 2000" else f"quality {quality}",
        sum(map(BARE[method], files)),
        whole,
        mean_psnr(pictures, images),
        pictures[shown],
        (encoded - began) / len(images),
        (ended - encoded) / len(images),
    )


def one_file(method, image, quality, **more):
    """The bytes of the file of an image (h, w, C) uint8."""
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    if method in CHROMA:
        options = {"format": "JPEG", "quality": quality, "subsampling": CHROMA[method]}
    elif method == "JPEG 2000":
        options = {
            "format": "JPEG2000",
            "quality_mode": "dB",
            "quality_layers": [quality],
            "irreversible": True,
            "mct": int(image.shape[-1] >= 3),
            "no_jp2": True,  # the code stream alone
        }
    else:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGB")
        # exact: what no one sees where alpha is 0 counts here as every number does.
        options = {"format": "WEBP", "quality": quality, "method": 6, "exact": True}
    file = io.BytesIO()
    picture.save(file, **options, **more)
    return file.getvalue()


def decoded(data, image):
    """The picture in a file's bytes, shaped as `image` (h, w, C) uint8."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[image.shape[-1]]
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode)).reshape(image.shape)


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


def jpeg2000_stream_bytes(data):
    """Bytes of a JPEG 2000 code stream of one tile without headers (ITU T.800, annex A)."""
    place = 2  # after the start marker
    while data[place : place + 2] != b"\xff\x93":  # start of data
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return len(data) - place - 4  # that marker, and the one at the end


BARE = {
    "JPEG 4:2:0": jpeg_scan_bytes,
    "JPEG 4:4:4": jpeg_scan_bytes,
    "JPEG 2000": jpeg2000_stream_bytes,
    "WebP": webp_data_bytes,
}


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
