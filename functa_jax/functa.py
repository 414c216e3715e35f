"""A trained functa: the shared network with what it takes to encode and decode images."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from functa_jax.functa_file import read, sides_of, whole
from functa_jax.images import signals
from functa_jax.model import siren
from functa_jax.training.batches import in_batches
from functa_jax.training.devices import AXIS, REPLICATED
from functa_jax.training.inner_loop import encode
from groundfloor.errors import UserError
from groundfloor.runs import atomic


@dataclass(frozen=True, eq=False)
class Functa:
    """Shared weights, their configuration, and how latents are fitted with them.

    config: siren.ModelConfig; params: nested dict of arrays; resolution: (height, width) of
    the images it was trained on; inner_steps: steps of the inner loop; penalty: weight of
    mean(latent**2) in the inner loss; metadata: JSON-able dict (data set, training).
    """

    config: siren.ModelConfig
    params: dict
    resolution: tuple[int, int]
    inner_steps: int = 3
    penalty: float = 0.0
    metadata: dict = field(default_factory=dict)

    @cached_property
    def hash(self):
        """16 hexadecimal digits that name these weights."""
        digest = hashlib.sha256(repr(self.config.named).encode())
        for key, value in sorted(siren.flatten(self.params).items()):
            digest.update(key.encode() + np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:16]

    def course(self, images, steps=None, batch_size=256):
        """Fit images and keep the whole course.

        images (n, h, w, C) or, with one channel, (n, h, w): uint8 or floats in [0, 1]; noise may
        leave [0, 1] by a half, what is not finite or further out is a UserError.
        Returns latents (n, steps + 1, *config.latent_shape) and mean squared errors
        (n, steps + 1), float32: [:, k] are those after k steps.
        """
        steps = self.inner_steps if steps is None else whole("steps", steps, 0)
        images = self._as_batch(images)
        coords = siren.points(self.config, self.resolution)
        encode_batch, *_ = _compiled(self.config, self.penalty)

        def fitted(pixels):
            return encode_batch(self.params, coords, signals.to_float(pixels), steps=steps)

        pixels = siren.arrange(self.config, images)
        return in_batches(fitted, [pixels], whole("batch_size", batch_size, 1))

    def encode(self, images, steps=None, batch_size=256):
        """Images -> (latents float32, psnr float32 (n,) of their reconstructions in dB).

        images as in `course`; latents (n, L), or (n, s, s, L) for a grid of cells. An image's
        latent depends on that image alone.
        """
        latents, errors = self.course(images, steps, batch_size)
        return latents[:, -1], signals.psnr(errors[:, -1])

    def decode(self, latents, resolution=None, coords=None, batch_size=256):
        """Latents, as from `encode`, -> images float32 (n, h, w, C), about [0, 1], not clipped.

        resolution: a side or (height, width), default the training images'. With coords
        (M, 2) in [0, 1]^2, (row, column) order, colours (n, M, C) at these points instead.
        UserError for other shapes, and for points outside, where nothing was learnt.
        """
        latents = np.asarray(latents, np.float32)
        expected = self.config.latent_shape
        if latents.shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise UserError(f"latents have shape {latents.shape}, not (n, {wanted})")
        shape = self.resolution if resolution is None else sides_of(resolution)
        _, decode_pixels, decode_points = _compiled(self.config, self.penalty)

        def decoded(function, points):
            def colours(batch):
                return (function(self.params, points, batch),)

            return in_batches(colours, [latents], whole("batch_size", batch_size, 1))[0]

        if coords is not None:
            return decoded(decode_points, jnp.asarray(_points(coords)))
        if siren.has_points(self.config, shape):
            pixels = decoded(decode_pixels, siren.points(self.config, shape))
            return siren.restore(self.config, pixels, shape)
        colours = decoded(decode_points, siren.coordinate_grid(*shape))
        return colours.reshape(len(latents), *shape, self.config.channels)

    def _as_batch(self, images):
        images = signals.checked(images)
        if images.ndim == 3 and self.config.channels == 1:
            images = images[..., None]
        expected = (*self.resolution, self.config.channels)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise UserError(
                f"images have shape {images.shape[1:]}; this functa was made for {expected}"
            )
        return images

    def contents(self):
        """(about, arrays) as functa_file.read gives them."""
        about = {
            "config": self.config,
            "resolution": tuple(self.resolution),
            "inner_steps": self.inner_steps,
            "penalty": self.penalty,
            "metadata": self.metadata,
        }
        return about, siren.flatten(self.params)

    def __repr__(self):
        config, (height, width) = self.config, self.resolution
        shape = " x ".join(map(str, config.latent_shape))
        return (
            f"Functa({self.metadata.get('data', 'images')} of {height} x {width} x "
            f"{config.channels}, latents of {shape} numbers, width {config.width}, "
            f"depth {config.depth}, {self.inner_steps} inner steps, {self.hash})"
        )

    def save(self, path):
        """Write a `.npz` file (arrays and one JSON string, no pickle), whole or not at all."""
        about, arrays = self.contents()
        about["config"] = asdict(self.config)
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, about=json.dumps(about), **arrays)


def load(path):
    """Load a Functa from a run folder, or from a `functa.npz` file.

    Raises UserError, in one line, if there is none or it is damaged.
    """

    def functa_of(about, arrays):
        params = siren.unflatten(arrays)
        siren.check_arrays(params, partial(siren.init, about["config"], 0))
        return Functa(params=params, **about)

    return read(path, functa_of)


@cache
def _compiled(config, penalty):
    """(encode, decode pixels, decode any points), data parallel on local devices.

    Kept for all Functa of this kind.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    images = PartitionSpec(AXIS)

    def decode_pixels(params, coords, latents):
        return jax.lax.map(partial(siren.with_params(config, params), coords), latents)

    def decode_points(params, coords, latents):
        return jax.lax.map(partial(siren.with_params(config, params).at, coords), latents)

    def sharded(function, out_specs):
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(REPLICATED, REPLICATED, images),
            out_specs=out_specs,
            check_vma=False,
        )

    @partial(jax.jit, static_argnames="steps")
    def encode_batch(params, coords, batch, steps):
        def encode_share(params, coords, batch):
            return encode(config, params, coords, batch, steps, penalty)

        return sharded(encode_share, (images, images))(params, coords, batch)

    return encode_batch, *(jax.jit(sharded(f, images)) for f in (decode_pixels, decode_points))


def _points(coords):
    coords = np.asarray(coords, np.float32)
    if coords.ndim != 2 or coords.shape[1] != 2:
        raise UserError(f"coords have shape {coords.shape}, not (M, 2), in [0, 1]^2")
    if coords.size and not (coords.min() >= -1e-6 and coords.max() <= 1 + 1e-6):
        span = f"{coords.min():g} to {coords.max():g}"
        raise UserError(f"coords are {span}; points lie in [0, 1]^2, (row, column)")
    return coords
