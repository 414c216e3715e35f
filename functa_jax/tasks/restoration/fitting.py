"""Latents fitted to what was seen of images: some of their pixels, a coarser or a noisy picture.

What was seen is a picture y with a mask m, 1 where a pixel is known and 0 where it is hidden. The
model f is rendered on a grid that may be finer, and averaged over blocks, to meet it:

    error(z) = sum(m * (average(f(z)) - y)**2) / sum(m).

Two fits. `course` is the inner loop as it was trained: a few steps from its start.
`refine` walks with Adam to the minimum of

    error(z) + noise**2 / (numbers seen) * (z - mean)' S^-1 (z - mean),

the most probable latent if latents are N(mean, S), as the train latents' are about, and what is
seen is f(z) with Gaussian errors of standard deviation `noise`: the noise in it and what latents
cannot show. It starts from the mean: from the inner loop's latents, which what was hidden may
have led astray, it takes several times as many steps. `refine_by_prior` puts a diffusion prior in
the Gaussian's place; wiener.py has a linear model in the network's, in closed form. Steps and noise
are chosen on validation (estimates.py).
"""

from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from sklearn.covariance import OAS

from functa_jax.evaluation import reconstruction
from functa_jax.model import siren
from functa_jax.training import inner_loop
from functa_jax.training.batches import in_batches
from functa_jax.training.devices import AXIS, REPLICATED
from functa_jax.training.inner_loop import images_at_once, over_images, points_and_batch

BATCH = 256  # images per call
REFINE_STEPS = 100  # of Adam
PRIOR_LEVELS = (0.7, 0.5, 0.35, 0.25, 0.15)  # noise, in spreads of the latents
PRIOR_STEPS = 30
RATE = 0.3  # of Adam, falling to zero along a cosine; a latent's numbers have variance 1 there


@dataclass(frozen=True, eq=False)
class Seen:
    """pictures (n, h, w, C), floats in [0, 1], known where mask (n, h, w) is not 0.

    A pixel is the mean of oversample x oversample pixels of the model. Without mask all is known.
    """

    pictures: np.ndarray
    mask: np.ndarray | None = None
    oversample: int = 1

    @property
    def weights(self):
        """The mask as float32 (n, h, w)."""
        mask = np.ones(self.pictures.shape[:3]) if self.mask is None else self.mask
        return np.asarray(mask, np.float32)

    @property
    def hidden(self):
        """Where pixels are not known, bool (n, h, w); None if all are."""
        return None if self.mask is None else self.mask == 0


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, factor' factor) over latents, flat: mean (L,), factor and its inverse (L, L)."""

    mean: np.ndarray
    factor: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, latents):
        """Mean and covariance, shrunk by OAS as in wiener.py, of latents (n, ...)."""
        rows = reconstruction.as_rows(np.asarray(latents, np.float64))
        normal = OAS(store_precision=False).fit(rows)
        variances, axes = np.linalg.eigh(normal.covariance_)
        scales = np.sqrt(np.maximum(variances, 1e-24))  # latents may be all alike
        return cls(normal.location_, scales[:, None] * axes.T, axes / scales)

    @classmethod
    def isotropic(cls, mean, spread):
        """The same standard deviation, `spread`, in all directions; mean (L,)."""
        one = np.eye(len(mean))
        return cls(mean, spread * one, one / spread)

    def whiten(self, latents):
        """Latents (n, ...) -> rows (n, L), float32, that are N(0, 1) if latents are as these."""
        rows = reconstruction.as_rows(np.asarray(latents, np.float64))
        return ((rows - self.mean) @ self.inverse).astype(np.float32)

    def colour(self, rows, shape):
        """The inverse of `whiten`: rows (n, L) -> latents (n, *shape), float32."""
        latents = self.mean + np.asarray(rows, np.float64) @ self.factor
        return latents.reshape(-1, *shape).astype(np.float32)


# ---- the two fits ----


def course(functa, seen, steps):
    """Latents (n, steps + 1, *latent_shape) after each step of the inner loop.

    As Functa.course, with hidden pixels left out; but a refined PCA begins at its mean picture, not
    at the latent that PCA gives a whole one. In a grid of cells each cell's known pixels are
    averaged by themselves, so that its rates fit however many they are.
    """
    weights = _per_cell(functa.config, seen.weights)
    resolution, points = _grid(functa, seen)
    fit, _ = _compiled(functa.config, resolution, seen.oversample, functa.penalty)
    (latents,) = in_batches(
        lambda *batch: (fit(functa.params, points, batch, steps=steps),),
        (np.asarray(seen.pictures, np.float32), weights),
        BATCH,
    )
    return latents


def refine(functa, seen, gaussian, noise, *, start=None, around=None, steps=REFINE_STEPS):
    """Latents (n, *latent_shape) after `steps` steps of Adam; see the module.

    noise: as of a signal in [0, 1]; 0 leaves the Gaussian out. start, around (n, *latent_shape):
    where to begin, and each image's own mean of the Gaussian; default the Gaussian's mean.
    """
    rows = np.zeros((len(seen.pictures), len(gaussian.mean)), np.float32)
    start, centres = (rows if z is None else gaussian.whiten(z) for z in (start, around))
    resolution, points = _grid(functa, seen)
    _, descend = _compiled(functa.config, resolution, seen.oversample, functa.penalty)
    normal = [jnp.asarray(x, jnp.float32) for x in (gaussian.mean, gaussian.factor, noise)]
    (rows,) = in_batches(
        lambda *batch: (descend(functa.params, points, normal, batch, steps=steps),),
        (np.asarray(seen.pictures, np.float32), seen.weights, start, centres),
        BATCH,
    )
    return gaussian.colour(rows, functa.config.latent_shape)


def refine_by_prior(functa, seen, latents, prior, noise):
    """Latents as from `refine`, with a diffusion.Prior of latents in place of the Gaussian.

    In turns the prior denoises the latents and they are refined around what it found, as if it
    were right up to the noise that it removed, which falls from round to round: half-quadratic
    splitting with a learned denoiser (Zhang et al. 2021, "Plug-and-play image restoration with
    deep denoiser prior").
    """
    for level in PRIOR_LEVELS:
        clean = prior.denoise(latents, level)
        around = Gaussian.isotropic(prior.mean.ravel(), float(level * prior.scale))
        latents = refine(functa, seen, around, noise, start=clean, around=clean, steps=PRIOR_STEPS)
    return latents


def block_means(pictures, factor):
    """Means over factor x factor pixels: (n, h, w, C) -> (n, h / factor, w / factor, C)."""
    n, height, width, channels = pictures.shape
    blocks = (n, height // factor, factor, width // factor, factor, channels)
    return pictures.reshape(blocks).mean((2, 4))


def _per_cell(config, mask):
    """Masks (n, h, w) divided by their mean over the cell that a pixel lies in."""
    s = config.grid or 1
    rows, columns = (np.eye(s)[(2 * np.arange(n) + 1) * s // (2 * n)] for n in mask.shape[1:])
    pixels = np.outer(rows.sum(0), columns.sum(0))
    shares = np.einsum("hr,nhw,wc->nrc", rows, mask, columns) / np.maximum(pixels, 1)
    shares = np.einsum("hr,nrc,wc->nhw", rows, shares, columns)
    return np.divide(mask, shares, out=np.zeros_like(mask), where=shares > 0, casting="same_kind")


def _grid(functa, seen):
    """The resolution that the model is rendered at, and its points."""
    resolution = tuple(side * seen.oversample for side in seen.pictures.shape[1:3])
    if _by_cells(functa.config, resolution):
        return resolution, siren.points(functa.config, resolution)
    return resolution, siren.coordinate_grid(*resolution)


def _by_cells(config, resolution):
    return config.by_cells and not any(side % config.grid for side in resolution)


@cache
def _compiled(config, resolution, oversample, penalty):
    """(course, refine) of batches, data parallel on local devices."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    images = PartitionSpec(AXIS)

    def renderer(params, points):
        model = siren.with_params(config, params)

        def render(latent):
            if _by_cells(config, resolution):
                picture = siren.restore(config, model(points, latent)[None], resolution)
            else:
                picture = model.at(points, latent).reshape(1, *resolution, config.channels)
            return block_means(picture, oversample)[0]

        return model, render

    def at_once(images):
        return max(1, images_at_once(*points_and_batch(images)) // oversample**2)

    def sharded(function, *whole):
        return jax.shard_map(
            function, mesh=mesh, in_specs=(*whole, images), out_specs=images, check_vma=False
        )

    @partial(jax.jit, static_argnames="steps")
    def fit(params, points, batch, steps):
        def share(params, points, batch):
            model, render = renderer(params, points)

            def fit_one(row):
                picture, weights = row
                scale = jnp.sqrt(weights[..., None])

                def residuals(latent):
                    return scale * (render(latent) - picture)

                def next_latent(latent, number):
                    after, _ = inner_loop.step(model, residuals, latent, number, penalty=penalty)
                    return after, latent

                start = jnp.zeros(config.latent_shape, picture.dtype)
                last, latents = jax.lax.scan(next_latent, start, jnp.arange(steps))
                return jnp.concatenate([latents, last[None]])

            return over_images(fit_one, batch, at_once(batch[0]))

        return sharded(share, REPLICATED, REPLICATED)(params, points, batch)

    @partial(jax.jit, static_argnames="steps")
    def descend(params, points, normal, batch, steps):
        def share(params, points, normal, batch):
            _, render = renderer(params, points)
            mean, factor, noise = normal
            adam = optax.adam(optax.cosine_decay_schedule(RATE, steps))

            def fit_one(row):
                picture, mask, start, centre = row
                numbers = jnp.maximum(mask.sum(), 1e-6) * config.channels

                def objective(z):
                    latent = (mean + z @ factor).reshape(config.latent_shape)
                    error = jnp.sum(mask[..., None] * (render(latent) - picture) ** 2)
                    return (error + noise**2 * jnp.sum((z - centre) ** 2)) / numbers

                def step(carry, _):
                    z, state = carry
                    update, state = adam.update(jax.grad(objective)(z), state)
                    return (z + update, state), None

                return jax.lax.scan(step, (start, adam.init(start)), length=steps)[0][0]

            return over_images(fit_one, batch, at_once(batch[0]))

        return sharded(share, REPLICATED, REPLICATED, REPLICATED)(params, points, normal, batch)

    return fit, descend
