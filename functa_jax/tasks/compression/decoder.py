"""How pictures depend on latents: Jacobians of a functa's decoder, transposed."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from functa_jax.images import signals
from functa_jax.model import siren
from functa_jax.training.batches import in_batches

BATCH = 256


def pulled_noise(functa, latents, seed=0):
    """J'v for each of latents (n, ...): J the Jacobian of its picture, v random signs; float32.

    The mean of its outer product with itself is the mean of J'J.
    """
    shape = np.shape(siren.arrange(functa.config, np.zeros((1, *_image_shape(functa)))))[1:]
    signs = np.random.default_rng(seed).integers(0, 2, (len(latents), *shape), np.int8) * 2 - 1
    pull, _ = _compiled(functa.config)
    points = siren.points(functa.config, functa.resolution)
    return in_batches(
        lambda z, v: (pull(functa.params, points, z, v),), [np.float32(latents), signs], BATCH
    )[0]


def error_gradients(functa, latents, images):
    """(J'(f(z) - x), squared errors) of latents (n, ...) and images (n, h, w, C), uint8.

    The gradient of half the squared error of each picture, and that error, a sum over its numbers.
    """
    _, gradients = _compiled(functa.config)
    points = siren.points(functa.config, functa.resolution)
    pixels = siren.arrange(functa.config, images)
    return in_batches(
        lambda z, x: gradients(functa.params, points, z, signals.to_float(x)),
        [np.float32(latents), pixels],
        BATCH,
    )


def _image_shape(functa):
    return (*functa.resolution, functa.config.channels)


@cache
def _compiled(config):
    def pull(params, points, latents, vectors):
        model = siren.with_params(config, params)

        def one(pair):
            return jax.vjp(lambda z: model(points, z), pair[0])[1](pair[1].astype(jnp.float32))[0]

        return jax.lax.map(one, (latents, vectors))

    def gradients(params, points, latents, pixels):
        model = siren.with_params(config, params)

        def one(pair):
            colours, transposed = jax.vjp(lambda z: model(points, z), pair[0])
            residual = colours - pair[1]
            return transposed(residual)[0], jnp.sum(residual**2)

        return jax.lax.map(one, (latents, pixels))

    return jax.jit(pull), jax.jit(gradients)
