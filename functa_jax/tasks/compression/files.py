"""Images packed into one file as quantised latents, and unpacked."""

import math

import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.compression import codec, curves
from groundfloor import npz
from groundfloor.errors import UserError
from groundfloor.runs import atomic

TRAIN_ROWS = 10_000  # images that are fitted anew, with more steps, for ranges and frequencies
VAL_ROWS = 1000  # images that choose the number of steps
RENDERED = 8192  # pictures to estimate how far each number moves them


def encode_file(path, material, images, bits=6, steps=None):
    """Fit images uint8 (n, h, w, C) with the functa of a Material and write them in a file.

    steps: inner steps, default those of training. Returns codec.Sizes.
    """
    steps = material.functa.inner_steps if steps is None else steps
    latents, _ = material.functa.encode(images, steps)
    train = train_rows(material, steps)
    coder = codec.fit(train, bits, weights(material.functa, train))
    return codec.write(path, material.functa.hash, coder, reconstruction.as_rows(latents))


def decode_file(path, functa):
    """The images uint8 (n, h, w, C) of a file that `encode_file` wrote with this Functa.

    Raises UserError, in one line, if it is missing, damaged, or of another functa.
    """
    return rendered(functa, codec.read(path, functa.hash, functa.config.numbers))


def best_steps(material, steps):
    """`steps` inner steps or those of training: the more dB on validation.

    Not every functa gains by more steps than it was trained with.
    """
    functa, images = material.functa, material.data.val.images[:VAL_ROWS]
    if not len(images):
        print(f"no validation images: {functa.inner_steps} steps, as in training", flush=True)
        return functa.inner_steps
    _, errors = functa.course(images, max(steps, functa.inner_steps))
    return max((functa.inner_steps, steps), key=reconstruction.mean_psnr(errors).__getitem__)


def rendered(functa, rows):
    """Latents as rows (n, d) -> images uint8 (n, h, w, C)."""
    return curves.to_bytes(functa.decode(rows.reshape(-1, *functa.config.latent_shape)))


def train_rows(material, steps):
    """Train latents (n, d) of `steps` inner steps: of the functaset, or fitted anew."""
    if steps == material.functaset.metadata.get("inner_steps"):
        return reconstruction.as_rows(material.functaset.train.latents).astype(np.float32)
    images = material.data.train.images[:TRAIN_ROWS]
    print(f"fitting {len(images):,} train images with {steps} steps", flush=True)
    return reconstruction.as_rows(material.functa.encode(images, steps)[0])


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


def pack(config):
    """Fit the images of config.pack and write config.to; returns what is printed."""
    images = _read_images(config.pack)
    material = task.load(config)
    material.functa.encode(images[:1])  # refuses images of another shape before any work
    steps = best_steps(material, config.steps)
    sizes = encode_file(config.to, material, images, config.bits, steps)
    psnr = curves.mean_psnr(decode_file(config.to, material.functa), images)
    total = sizes.fixed + sizes.payload
    rate = 8 * total / math.prod(images.shape[:3])
    print(
        f"{config.to}: {len(images):,} images in {total:,} bytes ({sizes.fixed:,} of them once for "
        f"any number of images), {rate:.3f} bits per pixel, {psnr:.2f} dB"
    )
    return {"images": len(images), "bytes": total, "bits/pixel": rate, "PSNR (dB)": psnr}


def _read_images(path):
    images = npz.read_array(path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UserError(f"{path} does not hold uint8 images (n, h, w, C) or (n, h, w)")
    if not len(images):
        raise UserError(f"{path} holds no image")
    return images


def unpack(config):
    """Write the images of the file config.unpack to config.to."""
    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    from functa_jax.functa import load

    images = decode_file(config.unpack, load(config.run))
    with atomic(config.to) as temporary, temporary.open("wb") as file:
        np.save(file, images)
    print(f"{config.to}: uint8 images {images.shape}")
    return {"images": len(images)}
