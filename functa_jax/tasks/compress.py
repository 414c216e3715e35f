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

import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.compression import codec, rates
from functa_jax.tasks.restoration import estimates
from functa_jax.tasks.task import TaskConfig
from groundfloor import checks, cli
from groundfloor.checks import Count, Interval
from groundfloor.data.split import first_line
from groundfloor.errors import UserError
from groundfloor.runs import atomic, duration

TRAIN_ROWS = 10_000  # images that are fitted anew, with more steps, for ranges and frequencies
VAL_ROWS = 1000  # images that choose the number of steps
MOST_COMPONENTS = 3072  # of "all" of PCA
RENDERED = 8192  # pictures to estimate how far each number moves them
SHOWN = 10
Bits = Annotated[int, Interval(1, codec.MOST_BITS)]


@dataclass(frozen=True)
class Config(TaskConfig):
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
    """Measure, or pack, or unpack."""
    if config.unpack:
        _say_unused(config, "images", "steps", "bits", "functaset", "data_dir", "out")
        return _unpack(config)
    if config.pack:
        _say_unused(config, "images", "out")
        return _pack(config)
    _say_unused(config, "bits")
    return _measure(config)


def _say_unused(config, *names):
    given = [name for name in names if getattr(config, name) != getattr(Config, name)]
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if given:
        print(f"without effect here: {flags}", flush=True)


# ---- files ----


def encode_file(path, found, images, bits=6, steps=None):
    """Fit images uint8 (n, h, w, C) with the functa of a Material and write them in a file.

    steps: inner steps, default those of training. Returns codec.Sizes.
    """
    steps = found.functa.inner_steps if steps is None else steps
    latents, _ = found.functa.encode(images, steps)
    train = train_rows(found, steps)
    coder = codec.fit(train, bits, weights(found.functa, train))
    return codec.write(path, found.functa.hash, coder, reconstruction.as_rows(latents))


def decode_file(path, functa):
    """The images uint8 (n, h, w, C) of a file that `encode_file` wrote with this Functa.

    Raises UserError, in one line, if it is missing, damaged, or of another functa.
    """
    return rendered(functa, codec.read(path, functa.hash, functa.config.numbers))


def best_steps(found, steps):
    """`steps` inner steps or those of training: the more dB on validation.

    Not every functa gains by more steps than it was trained with.
    """
    functa, images = found.functa, found.data.val.images[:VAL_ROWS]
    if not len(images):
        print(f"no validation images: {functa.inner_steps} steps, as in training", flush=True)
        return functa.inner_steps
    _, errors = functa.course(images, max(steps, functa.inner_steps))
    return max((functa.inner_steps, steps), key=reconstruction.mean_psnr(errors).__getitem__)


def rendered(functa, rows):
    """Latents as rows (n, d) -> images uint8 (n, h, w, C)."""
    return rates.to_bytes(functa.decode(rows.reshape(-1, *functa.config.latent_shape)))


def train_rows(found, steps):
    """Train latents (n, d) of `steps` inner steps: of the functaset, or fitted anew."""
    if steps == found.functaset.metadata.get("inner_steps"):
        return reconstruction.as_rows(found.functaset.train.latents).astype(np.float32)
    images = found.data.train.images[:TRAIN_ROWS]
    print(f"fitting {len(images):,} train images with {steps} steps", flush=True)
    return reconstruction.as_rows(found.functa.encode(images, steps)[0])


def weights(functa, latents):
    """How far pictures move for each unit of each number: float (d,), root mean square of pixels.

    Central differences over a quarter of a standard deviation, at the first of latents (n, d).
    """
    numbers = latents.shape[1]
    places = latents[: max(4, RENDERED // numbers)]
    spreads = latents.std(axis=0)
    moved = np.zeros(numbers)
    for number in np.flatnonzero(spreads):
        shift = np.zeros_like(spreads)
        shift[number] = spreads[number] / 4
        below, above = (
            functa.decode((places + sign * shift).reshape(-1, *functa.config.latent_shape))
            for sign in (-1, 1)
        )
        moved[number] = np.sqrt(np.mean((above - below) ** 2)) / (2 * shift[number])
    return moved


def _pack(config):
    images = _read_images(config.pack)
    found = task.load(config)
    found.functa.encode(images[:1])  # refuses images of another shape before any work
    steps = best_steps(found, config.steps)
    sizes = encode_file(config.to, found, images, config.bits, steps)
    psnr = rates.mean_psnr(decode_file(config.to, found.functa), images)
    total = sizes.fixed + sizes.payload
    rate = 8 * total / math.prod(images.shape[:3])
    print(
        f"{config.to}: {len(images):,} images in {total:,} bytes ({sizes.fixed:,} of them once for "
        f"any number of images), {rate:.3f} bits per pixel, {psnr:.2f} dB"
    )


def _read_images(path):
    try:
        images = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except Exception as error:  # reading a damaged file may raise nearly anything
        raise UserError(f"{path} is not a .npy file of images ({first_line(error)})") from None
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UserError(f"{path} does not hold uint8 images (n, h, w, C) or (n, h, w)")
    if not len(images):
        raise UserError(f"{path} holds no image")
    return images


def _unpack(config):
    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    from functa_jax.functa import load

    images = decode_file(config.unpack, load(config.run))
    try:
        with atomic(config.to) as temporary, temporary.open("wb") as file:
            np.save(file, images)
    except OSError as error:
        raise UserError(f"cannot write {config.to}: {error.strerror}") from None
    print(f"{config.to}: uint8 images {images.shape}")


# ---- the report ----


def _measure(config):
    found = task.load(config)
    test = found.data.test.images
    if not len(test):
        raise UserError(f"{found.data.name} has no test images")
    images = test[np.linspace(0, len(test) - 1, min(config.images, len(test))).astype(int)]
    shown = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(int)
    steps = sorted({found.functa.inner_steps, config.steps})
    _announce(found, images, steps)
    ours = {count: _latents(found, images, shown, count) for count in steps}
    pca = [_pca(found, images, shown, count) for count in _components(found)]
    others = {}
    for name, qualities in rates.QUALITIES.items():
        if images.shape[-1] not in rates.CHANNELS[name]:
            continue
        print(f"{name}: {len(images):,} images at {len(qualities)} qualities", flush=True)
        others[name] = rates.standard(name, images, shown)
    curves = [*ours.values(), *pca, *others.values()]

    pixels = math.prod(images.shape[:3])
    figures = ["compress_rate.png", "compress_pictures.png"]
    published = rates.COIN if found.data.name == "cifar10" else ()
    rates.rate_figure(found.path(figures[0]), curves, pixels, published)
    best = ours[best_steps(found, config.steps)]
    points = [best[0], best[1], best[3]]
    points += [_nearest(curve, points[1].bare) for curve in (pca[0], *others.values())]
    rates.picture_figure(found.path(figures[1]), images[shown], points, pixels)

    rows = [
        {
            "method": point.method,
            "setting": point.setting,
            "bits/pixel": 8 * point.bare / pixels,
            "bits/pixel, whole files": 8 * point.whole / pixels,
            "PSNR (dB)": point.psnr,
        }
        for curve in curves
        for point in curve
    ]
    remarks = _remarks(found, images, best, pca, others, published)
    return task.report(found, "compress", config, rows, figures, remarks)


def _announce(found, images, steps):
    """Say what is fitted, where the report goes and how long fitting takes, by a trial's pace."""
    few = images[:64]
    _, seconds = estimates.trial(lambda: found.functa.encode(few, steps[-1]))
    kept = found.functaset.metadata.get("inner_steps")
    anew = min(TRAIN_ROWS, len(found.data.train.images))
    fits = {count: len(images) + (anew if count != kept else 0) for count in steps}
    work = sum(count * number for count, number in fits.items())
    said = " and ".join(f"{number:,} images with {count} steps" for count, number in fits.items())
    time = duration(work * seconds / len(few) / steps[-1])
    print(f"compress: fitting {said}, about {time}; report in {found.out}", flush=True)


def _latents(found, images, shown, steps):
    functa = found.functa
    train = train_rows(found, steps)
    rows = reconstruction.as_rows(functa.encode(images, steps)[0])
    return rates.quantised(
        f"latents, {steps} steps",
        train,
        rows,
        weights(functa, train),
        lambda z: rendered(functa, z),
        images,
        shown,
        rates.BITS,
    )


def _components(found):
    """Numbers of PCA: as many as a latent has, and all there are."""
    train = found.data.train.images
    most = min(MOST_COMPONENTS, len(train), math.prod(train.shape[1:]))
    return sorted({min(found.functa.config.numbers, most), most})


def _pca(found, images, shown, count):
    print(f"PCA, {count} numbers", flush=True)
    train = reconstruction.pixel_rows(found.data.train.images)
    whole = reconstruction.whole_pca(found.data.train.images, found.folder)
    model = reconstruction.first_components(whole, count)

    def render(rows):
        return rates.to_bytes(model.inverse_transform(rows)).reshape(-1, *images.shape[1:])

    rows = model.transform(reconstruction.pixel_rows(images))
    basis = np.ones(count)  # orthonormal
    train = model.transform(train)
    name, levels = f"PCA, {count} numbers", rates.PCA_BITS
    return rates.quantised(name, train, rows, basis, render, images, shown, levels)


def _nearest(curve, size):
    return min(curve, key=lambda point: abs(point.bare - size))


def _remarks(found, images, best, pca, others, published):
    """Sentences on what is counted, and on what the network costs."""
    count, point = len(images), best[3]
    shared = 4 * sum(leaf.size for leaf in _leaves(found.functa.params))
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
    for name in rates.QUALITIES.keys() - others.keys():
        remarks.append(f"No {name}: such a file cannot hold {images.shape[-1]} channels.")
    if images.shape[-1] >= 3:
        names = " and ".join(others)
        remarks.append(f"Colour is stored at half the resolution (4:2:0), the default: {names}.")
    if published:
        remarks.append("COIN++: its published numbers, on CIFAR-10 test with networks of its own.")
    return remarks


def _leaves(params):
    for value in params.values():
        yield from _leaves(value) if isinstance(value, dict) else (value,)


def _against(name, curve, point, shared, count):
    """What `curve` takes at the PSNR of `point`, and from how many images on the network pays."""
    parts = []
    for size, what in (("whole", "whole files"), ("bare", "without headers")):
        theirs = rates.bytes_at(curve, point.psnr, size)
        if theirs is None:
            return f"{name} is not measured at this PSNR"
        ours = getattr(point, size)
        images = rates.pays_from(shared, ours / count, theirs / count)
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
