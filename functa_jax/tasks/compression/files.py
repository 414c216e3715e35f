"""Images packed into one file as quantised latents, and unpacked."""

import math

import numpy as np

from functa_jax.tasks import task
from functa_jax.tasks.compression import codec as codecs
from functa_jax.tasks.compression import curves
from functa_jax.tasks.compression.encoding import Latents, as_grids, rendered
from groundfloor import npz
from groundfloor.errors import UserError
from groundfloor.runs import atomic


def encode_file(path, coder, images, step):
    """Write images uint8 (n, h, w, C) as latents of an encoding.Latents, at a step in grey levels.

    Returns codec.Sizes. UserError if the step is so small that numbers would be clipped.
    """
    codec = coder.codec(step)
    grids = as_grids(coder.functa, coder.functa.encode(images)[0])
    coordinates = codec.transform.apply(grids)
    least = 255 * codecs.finest(coordinates)
    if step < least:
        fair = math.ceil(100 * least) / 100
        raise UserError(f"--step {step:g} is too small for these images; at least {fair:g}")
    chosen = codec.choose(coordinates)
    return codecs.write(path, coder.decoder.hash, codec, chosen[0], codec.encode(*chosen))


def decode_file(path, functa):
    """The images uint8 (n, h, w, C) of a file that `encode_file` wrote for this decoder.

    Raises UserError, in one line, if it is missing, damaged, or of another functa.
    """
    shape = as_grids(functa, np.zeros((1, *functa.config.latent_shape))).shape[1:]
    return rendered(functa, codecs.read(path, functa.hash, shape))


def decoder_of(config, material):
    """The Functa that makes pictures: of the file config.decoder, or that of the run.

    UserError if it is neither that of the run nor adapted from it.
    """
    from functa_jax.functa import load

    if config.decoder is None:
        return material.functa
    found = load(config.decoder)
    if found.config != material.functa.config or found.resolution != material.functa.resolution:
        raise UserError(f"{config.decoder} is no decoder of {config.run}: their settings differ")
    if material.functa.hash not in (found.hash, found.metadata.get("adapted_from")):
        raise UserError(f"{config.decoder} was not adapted from the functa of {config.run}")
    return found


def pack(config):
    """Fit the images of config.pack and write config.to; returns what is printed."""
    images = _read_images(config.pack)
    material = task.load(config, images_only=True)
    material.functa.encode(images[:1])  # refuses images of another shape before any work
    settings = {"steps": config.training, "seed": config.seed}
    coder = Latents(material.functa, decoder_of(config, material), material.unaugmented, settings)
    sizes = encode_file(config.to, coder, images, config.step)
    psnr = curves.mean_psnr(decode_file(config.to, coder.decoder), images)
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

    functa = load(config.decoder or config.run)
    if not functa.of_images:
        raise UserError(f"{config.run} is of {functa.config.modality}: only images are unpacked")
    images = decode_file(config.unpack, functa)
    with atomic(config.to) as temporary, temporary.open("wb") as file:
        np.save(file, images)
    print(f"{config.to}: uint8 images {images.shape}")
    return {"images": len(images)}
