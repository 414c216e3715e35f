"""How few bits does an image take as a quantised latent, and what is left of it?

Latents are quantised and range coded (codec.py) with ranges and frequencies of the train latents;
everybody has the network, as everybody has a JPEG decoder. Beside them: PCA with as many numbers
and with all, through the same coder, and JPEG and WebP, which code each image alone. Their headers
outweigh such small images, so that both is told: whole files, and without what is the same in every
file. Points of COIN++ (Dupont et al. 2022), the published kin of this, are drawn for CIFAR-10.

    python -m functa_jax.tasks.compress --run RUN
    python -m functa_jax.tasks.compress --run RUN --pack images.npy --to images.functa
    python -m functa_jax.tasks.compress --run RUN --unpack images.functa --to images.npy
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.compression import codec, curves, files
from functa_jax.tasks.compression.figures import COIN, picture_figure, rate_figure
from groundfloor import checks, cli
from groundfloor.checks import Count, Interval
from groundfloor.errors import UserError
from groundfloor.runs import duration

MOST_COMPONENTS = 3072  # of "all" of PCA
SHOWN = 10
Bits = Annotated[int, Interval(1, codec.MOST_BITS)]


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """How to fit, what to measure, or a file to pack or unpack."""

    images: Count = 2000
    """Test images to measure, at most."""
    steps: Count = 10
    """Inner steps of a longer fit; packing takes it or that of training, as validation says."""
    bits: Bits = 6
    """Packing: 2^bits levels for the number that matters most; 3 to 8 are measured."""
    pack: Path | None = None
    """Images to pack: .npy, uint8 (n, h, w, C) or (n, h, w)."""
    unpack: Path | None = None
    """File to unpack."""
    to: Path | None = None
    """File that packing or unpacking (.npy) writes."""

    def __post_init__(self):
        checks.check(self)
        if self.pack and self.unpack:
            raise ValueError("give --pack or --unpack, not both")
        if bool(self.pack or self.unpack) != bool(self.to):
            raise ValueError("--pack and --unpack need --to FILE, and --to needs one of them")


def main(config):
    """Measure, or pack, or unpack; returns the report of a measurement."""
    rules = [
        (config.unpack, ("images", "steps", "bits", "functaset", "data_dir"), "with --unpack"),
        (config.pack, ("images",), "with --pack"),
        (config.to, ("out", "table", "figures"), "without a report"),
        (not config.to, ("bits",), "without --pack"),
    ]
    checks.say_idle(config, Config(config.run), rules)
    if config.unpack:
        return files.unpack(config)
    if config.pack:
        return files.pack(config)
    return _measure(config)


def _measure(config):
    material = task.load(config)
    test = material.data.test.images
    if not len(test):
        raise UserError(f"{material.data.name} has no test images")
    images = test[task.spaced(len(test), config.images)]
    shown = task.spaced(len(images), SHOWN)
    steps = sorted({material.functa.inner_steps, config.steps})
    _announce(material, images, steps)
    ours = {count: _latents(material, images, shown, count) for count in steps}
    pca = [_pca(material, images, shown, count) for count in _components(material)]
    others = {}
    for name, qualities in curves.QUALITIES.items():
        if images.shape[-1] not in curves.CHANNELS[name]:
            continue
        print(f"{name}: {len(images):,} images at {len(qualities)} qualities", flush=True)
        others[name] = curves.standard(name, images, shown)
    measured = [*ours.values(), *pca, *others.values()]

    pixels = math.prod(images.shape[:3])
    figures = ["compress_rate.png", "compress_pictures.png"]
    published = COIN if material.data.name == "cifar10" else ()
    rate_figure(material.path(figures[0]), measured, pixels, published)
    best = ours[files.best_steps(material, config.steps)]
    points = [best[0], best[1], best[3]]
    for curve in (pca[0], *others.values()):
        points.append(min(curve, key=lambda point: abs(point.bare - best[1].bare)))
    picture_figure(material.path(figures[1]), images[shown], points, pixels)

    rows = [
        {
            "method": point.method,
            "setting": point.setting,
            "bits/pixel": 8 * point.bare / pixels,
            "bits/pixel, whole files": 8 * point.whole / pixels,
            "PSNR (dB)": point.psnr,
        }
        for curve in measured
        for point in curve
    ]
    remarks = _remarks(material, images, best, pca, others, published)
    return task.report(material, "compress", config, rows, figures, remarks)


def _announce(material, images, steps):
    """Say what is fitted, where the report goes and how long fitting takes, by a trial's pace."""
    few = images[:64]
    _, seconds = task.trial(lambda: material.functa.encode(few, steps[-1]))
    kept = material.functaset.metadata.get("inner_steps")
    anew = min(files.TRAIN_ROWS, len(material.data.train.images))
    fits = {count: len(images) + (anew if count != kept else 0) for count in steps}
    work = sum(count * number for count, number in fits.items())
    said = " and ".join(f"{number:,} images with {count} steps" for count, number in fits.items())
    time = duration(work * seconds / len(few) / steps[-1])
    print(f"compress: fitting {said}, about {time}; report in {material.out}", flush=True)


def _latents(material, images, shown, steps):
    functa = material.functa
    train = files.train_rows(material, steps)
    rows = reconstruction.as_rows(functa.encode(images, steps)[0])
    return curves.quantised(
        f"latents, {steps} steps",
        train,
        rows,
        files.weights(functa, train),
        lambda z: files.rendered(functa, z),
        images,
        shown,
        curves.BITS,
    )


def _components(material):
    """Numbers of PCA: as many as a latent has, and all there are."""
    train = material.data.train.images
    most = min(MOST_COMPONENTS, len(train), math.prod(train.shape[1:]))
    return sorted({min(material.functa.config.numbers, most), most})


def _pca(material, images, shown, count):
    print(f"PCA, {count} numbers", flush=True)
    train = reconstruction.pixel_rows(material.data.train.images)
    whole = reconstruction.whole_pca(material.data.train.images, material.folder)
    model = reconstruction.first_components(whole, count)

    def render(rows):
        return curves.to_bytes(model.inverse_transform(rows)).reshape(-1, *images.shape[1:])

    rows = model.transform(reconstruction.pixel_rows(images))
    basis = np.ones(count)  # orthonormal
    train = model.transform(train)
    name, levels = f"PCA, {count} numbers", curves.PCA_BITS
    return curves.quantised(name, train, rows, basis, render, images, shown, levels)


def _remarks(material, images, best, pca, others, published):
    """Sentences on what is counted, and on what the network costs."""
    count, point = len(images), best[3]
    shared = 4 * sum(leaf.size for leaf in jax.tree.leaves(material.functa.params))
    remarks = [
        f"{count:,} test images, one seed. PSNR is the mean of per-image PSNR of uint8 pictures. "
        "n bits: 2^n levels for the number that moves pictures most, fewer for others, at steps "
        "that move pictures as much.",
        "bits/pixel leaves out what all files of a kind share: our header and tables (once a file, "
        "all images in one), JPEG's tables (standard Huffman codes), WebP's 30 bytes. Whole files: "
        "with them; JPEG then has its own Huffman codes. JPEG and WebP put each image in a file.",
        f"The network weighs {shared:,} bytes (float32) beside that. At {point.psnr:.1f} dB "
        f"({point.method}, which validation prefers; {point.setting}) an image takes "
        f"{point.bare / count:.1f} bytes; "
        + "; ".join(_against(name, curve, point, shared, count) for name, curve in others.items())
        + ".",
        "At these bytes "
        + ", ".join(f"{curve[0].method}: {_psnr_at(curve, point.bare)}" for curve in pca)
        + ".",
    ]
    for name in curves.QUALITIES:
        if name not in others:
            remarks.append(f"No {name}: such a file cannot hold {images.shape[-1]} channels.")
    if images.shape[-1] >= 3:
        names = " and ".join(others)
        remarks.append(f"Colour is stored at half the resolution (4:2:0), the default: {names}.")
    if published:
        remarks.append("COIN++: its published numbers, on CIFAR-10 test with networks of its own.")
    return remarks


def _against(name, curve, point, shared, count):
    """What `curve` takes at the PSNR of `point`, and from how many images on the network pays."""
    parts = []
    for size, what in (("whole", "whole files"), ("bare", "without headers")):
        theirs = curves.bytes_at(curve, point.psnr, size)
        if theirs is None:
            return f"{name} is not measured at this PSNR"
        ours = getattr(point, size)
        images = curves.pays_from(shared, ours / count, theirs / count)
        pays = f"it pays from {images:,} images on" if images else "it never pays"
        parts.append(f"{theirs / count:.1f} ({what}: {pays})")
    return f"{name} {' or '.join(parts)}"


def _psnr_at(curve, size):
    """PSNR of a curve at `size` bytes, linear in their logarithm."""
    points = sorted((point.bare, point.psnr) for point in curve)
    if not points[0][0] <= size <= points[-1][0]:
        return f"at most {points[-1][1]:.1f} dB" if size > points[-1][0] else "takes more"
    x, y = np.transpose(points)
    return f"{np.interp(np.log(size), np.log(x), y):.1f} dB"


if __name__ == "__main__":
    cli.run(main, Config)
