"""How few bits does an image take as a quantised latent, and what is left of it?

Latents are transformed, rounded and range coded (compression/codec.py) with a codec fitted to the
train latents; everybody has the network and the codec, as everybody has a JPEG decoder. Beside
them, through the same codec with all its parts: PCA of whole images and of blocks of 8 x 8 pixels.
And JPEG, JPEG 2000 and WebP, which code each image alone. Their headers outweigh such small images,
so that both is told: whole files, and without what is the same in every file. For CIFAR-10 the
published points of others (compression/published_cifar10.json) are drawn, too. Other functions
than images are measured as latents and as PCA (compression/functions.py), and not packed.

    python -m functa_jax.tasks.compress --run RUN
    python -m functa_jax.tasks.compress --run RUN --pack images.npy --to images.functa
    python -m functa_jax.tasks.compress --run RUN --unpack images.functa --to images.npy
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax

from functa_jax.tasks import task
from functa_jax.tasks.compression import curves, files, functions, methods, published
from functa_jax.tasks.compression.figures import picture_figure, rate_figure
from groundfloor import checks, cli
from groundfloor.checks import Count, CountOrZero, Positive
from groundfloor.errors import UserError
from groundfloor.runs import Progress, counted

SHOWN = 10
STEPS = (100, 72, 50, 36, 28, 20)  # of the quantiser, in grey levels of pictures of 0 ... 255


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """What to measure, or a file to pack or unpack."""

    images: Count | None = None
    """Test images to measure, at most; none: all."""
    training: CountOrZero = 600
    """Steps that train each entropy model; 0: it knows how large each number usually is alone."""
    decoder: Path | None = None
    """Functa of compression.adapt, whose pictures allow for rounding; default the run's own."""
    step: Positive = 64.0
    """Packing: step of the quantiser, in grey levels; 20 to 100 are measured."""
    pack: Path | None = None
    """Images to pack: .npy, uint8 (n, h, w, C) or (n, h, w)."""
    unpack: Path | None = None
    """File to unpack."""
    to: Path | None = None
    """File that packing or unpacking (.npy) writes."""

    def __post_init__(self):
        super().__post_init__()
        if self.pack and self.unpack:
            raise ValueError("give --pack or --unpack, not both")
        if bool(self.pack or self.unpack) != bool(self.to):
            raise ValueError("--pack and --unpack need --to FILE, and --to needs one of them")


def main(config):
    """Measure, or pack, or unpack; returns the report of a measurement."""
    rules = [
        (config.unpack, ("images", "step", "training", "functaset", "data_dir"), "with --unpack"),
        (config.pack, ("images",), "with --pack"),
        (config.to, ("out", "table", "figures"), "without a report"),
        (not config.to, ("step",), "without --pack"),
    ]
    checks.say_idle(config, Config(config.run), rules)
    if config.unpack:
        return files.unpack(config)
    if config.pack:
        return files.pack(config)
    return _measure(config)


def _measure(config):
    material = task.load(config)
    if not material.functa.of_images:
        if config.decoder:
            raise UserError(f"--decoder {config.decoder}: {config.run} is not of images")
        return functions.measure(config, material, STEPS)
    decoder = files.decoder_of(config, material)
    test = material.data.test.images
    if not len(test):
        raise UserError(f"{material.data.name} has no test images")
    rows = task.spaced(len(test), config.images or len(test))
    images, shown = test[rows], task.spaced(len(rows), SHOWN)
    settings = {"steps": config.training, "seed": config.seed}
    work = methods.work(material, decoder, rows, shown, STEPS, settings)
    total = sum(map(len, work.values()))
    print(
        f"compress: {counted(len(images), 'test image')} by {counted(len(work), 'method')}, "
        f"{counted(total, 'point')} in all; "
        f"report in {material.out}",
        flush=True,
    )
    measured = []
    with Progress(total, "point") as progress:
        for points in work.values():
            measured.append([])
            for measure in points.values():
                point = measure()
                measured[-1].append(point)
                progress.advance(1, method=point.method, psnr=f"{point.psnr:.2f} dB")

    pixels_in_all = math.prod(images.shape[:3])
    figures = ["compress_rate.png", "compress_pictures.png"]
    cifar10 = material.data.name == "cifar10" and images.shape[1:] == (32, 32, 3)
    others = published.curves() if cifar10 else []
    by_method = [[methods.row(point, images) for point in curve] for curve in measured]
    rate_figure(material.path(figures[0]), by_method, others)
    points = alike(measured)
    picture_figure(material.path(figures[1]), images[shown], points, pixels_in_all)
    table = [row for curve in by_method for row in curve]
    remarks = _remarks(material, images, measured, others)
    return task.report(material, "compress", config, table, figures, remarks)


def alike(measured):
    """A point of each curve, all at nearly one rate: that of the point of the first curve to which
    most others come within a fifth, and these closest, in proportion. Other curves are left out.

    measured: curves, lists of Points.
    """

    def off(point, other):
        return abs(math.log(other.bare / point.bare))

    def near(point):
        closest = [min(curve, key=partial(off, point)) for curve in measured]
        return [other for other in closest if off(point, other) < math.log(1.2)]

    def merit(point):
        return len(near(point)), -sum(off(point, other) for other in near(point))

    return near(max(measured[0], key=merit))


def _remarks(material, images, measured, others):
    """Sentences on what is counted, and on what the network costs."""
    count = len(images)
    ours, *rest = measured
    point = ours[len(ours) // 2]
    shared = 4 * sum(leaf.size for leaf in jax.tree.leaves(material.functa.params))
    remarks = [
        f"{count:,} test images, one seed. PSNR is the mean of per-image PSNR of uint8 pictures. "
        "Step: of the quantiser, in grey levels, for numbers of which each moves pictures as much "
        "as a pixel.",
        "bits/pixel leaves out what all files of a kind share: our header, transform and entropy "
        "model (once a file, all images in one), JPEG's tables (standard Huffman codes), the "
        "headers of JPEG 2000 and WebP. Whole files: with them, but for PCA's basis; JPEG then has "
        "its own Huffman codes. JPEG, JPEG 2000 and WebP put each image in a file. Milliseconds "
        "are of processor time.",
        f"The network weighs {shared:,} bytes (float32) beside that. At {point.psnr:.1f} dB "
        f"({point.method}, {point.setting}) an image takes {point.bare / count:.1f} bytes; "
        + "; ".join(_against(curve, point, shared, count) for curve in rest)
        + ".",
    ]
    for name, channels in curves.CHANNELS.items():
        if images.shape[-1] not in channels:
            remarks.append(f"No {name}: such a file is not for {images.shape[-1]} channels.")
    if images.shape[-1] >= 3:
        remarks.append("WebP stores colour at half the resolution (4:2:0), as it always does.")
    if others:
        remarks.append("Published points: compression/published_cifar10.json, with their sources.")
    return remarks


def _against(curve, point, shared, count):
    """What `curve` takes at the PSNR of `point`, and from how many images on the network pays."""
    name, parts = curve[0].method, []
    for size, what in (("whole", "whole files"), ("bare", "without headers")):
        theirs = curves.bytes_at(curve, point.psnr, size)
        if theirs is None:
            return f"{name} is not measured at this PSNR"
        if curve[0].basis_apart:
            parts.append(f"{theirs / count:.1f} ({what})")
            continue
        once = shared + point.whole - point.bare  # network, transform and tables, for all images
        images = curves.pays_from(once, point.bare / count, theirs / count)
        pays = f"it pays from {images:,} images on" if images else "it never pays"
        parts.append(f"{theirs / count:.1f} ({what}: {pays})")
    return f"{name} {' or '.join(parts)}"


if __name__ == "__main__":
    cli.run(main, Config)
