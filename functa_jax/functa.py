"""A trained functa: the shared network with what it takes to encode and decode images, or other
functions."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from functa_jax import functions
from functa_jax.functa_file import read, sides_of, whole
from functa_jax.images import signals
from functa_jax.model import siren
from functa_jax.training import lbfgs
from functa_jax.training.batches import in_batches
from functa_jax.training.devices import AXIS, REPLICATED
from functa_jax.training.inner_loop import (
    apart,
    encode,
    images_at_once,
    joined,
    over_images,
    points_and_batch,
)
from functa_jax.training.losses import predictions
from functa_jax.training.samples import Samples
from groundfloor import npz
from groundfloor.errors import UserError


@dataclass(frozen=True, eq=False)
class Functa:
    """Shared weights, their configuration, and how latents are fitted with them.

    config: siren.ModelConfig; params: nested dict of arrays; resolution: (height, width) of
    the images it was trained on, or the lattice of other functions, None if they have none;
    inner_steps: steps of the inner loop; penalty: weight of mean(latent**2) in the inner loss;
    metadata: JSON-able dict (data set, scale of its values as in a FunctionSet, training); coords:
    float32 (N, d), the points at which all the functions were known, None for images and where each
    had its own; fit_points: how many of a function's points, drawn once and for all, its latent is
    fitted to, None for all; lbfgs_steps: iterations of L-BFGS that follow in `encode` (closer, and
    dearer: see training/lbfgs.py). Another number is one line: dataclasses.replace(functa,
    lbfgs_steps=10).
    """

    config: siren.ModelConfig
    params: dict
    resolution: tuple[int, ...] | None
    inner_steps: int = 3
    penalty: float = 0.0
    metadata: dict = field(default_factory=dict)
    coords: np.ndarray | None = None
    fit_points: int | None = None
    lbfgs_steps: int = 0

    @cached_property
    def hash(self):
        """16 hexadecimal digits that name these weights."""
        digest = hashlib.sha256(repr(self.config.named).encode())
        for key, value in sorted(siren.flatten(self.params).items()):
            digest.update(key.encode() + np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()[:16]

    @property
    def fit_hash(self):
        """Names how latents are made: by which weights, and by L-BFGS after them or not."""
        return f"{self.hash}-lbfgs{self.lbfgs_steps}" if self.lbfgs_steps else self.hash

    @property
    def of_images(self):
        """Whether it knows images, not other functions."""
        return self.config.modality == "images"

    def course(self, images, steps=None, batch_size=256, coords=None, mask=None):
        """Fit images and keep the whole course.

        images (n, h, w, C) or, with one channel, (n, h, w): uint8 or floats in [0, 1]; noise may
        leave [0, 1] by a half, what is not finite or further out is a UserError.
        Other functions: values (n, N, C), or on the lattice (n, *resolution, C), at coords (N, d)
        or (n, N, d), default those of training; mask: bool (n, N), the points that count.
        Returns latents (n, steps + 1, *config.latent_shape) and mean squared errors
        (n, steps + 1), float32: [:, k] are those after k steps, of images at all pixels, of other
        functions at the points fitted to: rays that miss the ball of scenes
        (`Samples.instructive`) are none.
        """
        images, samples = self._samples(images, coords, mask)
        return self._at_all_pixels(images, *self._fitted(samples, steps, batch_size))

    def _samples(self, images, coords=None, mask=None):
        """(images, Samples) of them; (None, Samples) of other functions."""
        if not self.of_images:
            return None, functions.samples(self, images, coords, mask)
        if coords is not None or mask is not None:
            raise UserError("images have all their pixels, and neither coords nor mask")
        images = self._as_batch(images)
        pixels = siren.arrange(self.config, images)
        return images, Samples(pixels, siren.points(self.config, self.resolution))

    def course_of(self, split, steps=None, batch_size=256):
        """As `course`, of a split of a data set: images, or `Functions`."""
        images, samples = self._samples_of(split)
        return self._at_all_pixels(images, *self._fitted(samples, steps, batch_size))

    def _samples_of(self, split):
        """As `_samples`, of a split of a data set."""
        images = split.images[:] if self.of_images and self.fit_points is not None else None
        return images, Samples.of(self.config, split)

    def _at_all_pixels(self, images, latents, errors):
        """A course whose errors are those of all pixels, where fits were to a part of them."""
        if self.fit_points is None or images is None:
            return latents, errors
        truth, errors = signals.to_float(images), np.empty_like(errors)
        for step in range(errors.shape[1]):
            errors[:, step] = ((self.decode(latents[:, step]) - truth) ** 2).mean((1, 2, 3))
        return latents, errors

    def _fitted(self, samples, steps, batch_size):
        steps = self.inner_steps if steps is None else whole("steps", steps, 0)
        encode_batch, *_ = _compiled(self.config, self.penalty)
        return self._in_batches(partial(encode_batch, steps=steps), samples, [], batch_size)

    def _ends(self, images, samples, steps, batch_size):
        """What `encode` returns: the end of a course, after L-BFGS if that is to follow."""
        course = self._fitted(samples, steps, batch_size)
        if whole("lbfgs_steps", self.lbfgs_steps, 0):
            course = self._fitted_on(samples, course[0][:, -1], batch_size)
        latents, errors = self._at_all_pixels(images, *course)
        return latents[:, -1], signals.psnr(errors[:, -1])

    def _fitted_on(self, samples, latents, batch_size):
        """A course of one step: latents (n, 1, *latent_shape) and errors (n, 1) after L-BFGS."""
        _, fit_batch_on, *_ = _compiled(self.config, self.penalty)
        fit = partial(fit_batch_on, steps=self.lbfgs_steps)
        latents, errors = self._in_batches(fit, samples, [latents], batch_size)
        return latents[:, None], errors[:, None]

    def _in_batches(self, fit, samples, starts, batch_size):
        """fit(params, shared, (values, own, *starts)), as of `_compiled`, over batches of the
        points of Samples that latents are fitted to."""
        samples = samples.instructive(self.config).thinned(self.fit_points)
        own, shared = apart(samples.coords, samples.values, samples.weights)

        def fitted(values, *others):
            return fit(self.params, shared, (signals.to_float(values), *others))

        arrays = [samples.values, own, *starts]
        return in_batches(fitted, arrays, whole("batch_size", batch_size, 1))

    def encode(self, images, steps=None, batch_size=256, coords=None, mask=None):
        """Images -> (latents float32, psnr float32 (n,) of their reconstructions in dB).

        images, or other functions, as in `course`, whose psnr is at the points fitted to; latents
        (n, L), or (n, s, s, L) for a grid of cells. An image's latent depends on that image alone.
        steps: of the inner loop, default inner_steps; lbfgs_steps follow after them.
        """
        return self._ends(*self._samples(images, coords, mask), steps, batch_size)

    def encode_of(self, split, steps=None, batch_size=256):
        """As `encode`, of a split of a data set: images, or `Functions`."""
        return self._ends(*self._samples_of(split), steps, batch_size)

    def decode(self, latents, resolution=None, coords=None, batch_size=256):
        """Latents, as from `encode`, -> images float32 (n, h, w, C), about [0, 1], not clipped.

        resolution: a side or (height, width), default the training images'. With coords
        (M, 2) in [0, 1]^2, (row, column) order, colours (n, M, C) at these points instead.
        Other functions: values on the lattice (n, *resolution, C), or at the points of training
        (n, N, C), or at coords (M, d), or (n, M, d) of each; resolution: the sides of another
        lattice in [0, 1]^d.
        UserError for other shapes, and for points where nothing was learnt: of images, solids and
        films outside [0, 1]^d, of spheres anywhere but on them, of sounds before or after.
        """
        latents = np.asarray(latents, np.float32)
        expected = self.config.latent_shape
        if latents.shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise UserError(f"latents have shape {latents.shape}, not (n, {wanted})")
        *_, decode_pixels, decode_points = _compiled(self.config, self.penalty)

        def decoded(function, points, own=None):
            def colours(batch, own):
                return (function(self.params, points, (batch, own)),)

            return in_batches(colours, [latents, own], whole("batch_size", batch_size, 1))[0]

        if not self.of_images:
            points, own, sides = functions.places(self, len(latents), resolution, coords)
            values = decoded(decode_points, points, own)
            return values.reshape(len(latents), *sides, self.config.channels)
        shape = self.resolution if resolution is None else sides_of(resolution)
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
            "resolution": None if self.resolution is None else tuple(self.resolution),
            "inner_steps": self.inner_steps,
            "penalty": self.penalty,
            "metadata": self.metadata,
            "coords": self.coords,
            "fit_points": self.fit_points,
            "lbfgs_steps": int(self.lbfgs_steps),
        }
        return about, siren.flatten(self.params)

    def __repr__(self):
        config = self.config
        shape = " x ".join(map(str, config.latent_shape))
        sides = " x ".join(map(str, (*(self.resolution or ("any points",)), config.channels)))
        return (
            f"Functa({self.metadata.get('data', config.modality)} of {sides}, latents of {shape} "
            f"numbers, width {config.width}, depth {config.depth}, {self.inner_steps} inner steps, "
            f"{self.hash})"
        )

    def save(self, path):
        """Write a `.npz` file (arrays and one JSON string, no pickle), whole or not at all."""
        about, arrays = self.contents()
        about["config"] = asdict(self.config)
        coords = about.pop("coords")
        if coords is not None:
            arrays["coords"] = coords
        npz.write(path, {"about": json.dumps(about), **arrays})


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
    """(encode, fit on, decode pixels, decode any points), data parallel on local devices.

    Kept for all Functa of this kind. Each takes parameters, what all images share (coords, and for
    encoding weights), and a batch of images or latents with what each has of these for itself.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    images = PartitionSpec(AXIS)

    def decode_pixels(params, coords, batch):
        return jax.lax.map(partial(siren.with_params(config, params), coords), batch[0])

    def decode_points(params, coords, batch):
        model = siren.with_params(config, params)

        def decode_one(row):
            latent, own = row
            return predictions(config, model.at(coords if own is None else own, latent))

        return jax.lax.map(decode_one, batch)

    def sharded(function, out_specs):
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(REPLICATED, REPLICATED, images),
            out_specs=out_specs,
            check_vma=False,
        )

    @partial(jax.jit, static_argnames="steps")
    def encode_batch(params, shared, batch, steps):
        def encode_share(params, shared, batch):
            values, own = batch
            coords, weights = joined(own, shared)
            return encode(config, params, coords, values, steps, penalty, weights)

        return sharded(encode_share, (images, images))(params, shared, batch)

    @partial(jax.jit, static_argnames="steps")
    def fit_batch_on(params, shared, batch, steps):
        def fit_share_on(params, shared, batch):
            model = siren.with_params(config, params)

            def fit_one_on(row):
                values, own, latent = row
                coords, weights = joined(own, shared)
                return lbfgs.fit_on(
                    model, coords, values, latent, steps, penalty=penalty, weights=weights
                )

            side_by_side = images_at_once(*points_and_batch(batch[0]))
            return over_images(fit_one_on, batch, side_by_side)

        return sharded(fit_share_on, (images, images))(params, shared, batch)

    return (
        encode_batch,
        fit_batch_on,
        *(jax.jit(sharded(f, images)) for f in (decode_pixels, decode_points)),
    )


def _points(coords):
    coords = np.asarray(coords, np.float32)
    if coords.ndim != 2 or coords.shape[1] != 2:
        raise UserError(f"coords have shape {coords.shape}, not (M, 2), in [0, 1]^2")
    if coords.size and not (coords.min() >= -1e-6 and coords.max() <= 1 + 1e-6):
        span = f"{coords.min():g} to {coords.max():g}"
        raise UserError(f"coords are {span}; points lie in [0, 1]^2, (row, column)")
    return coords
