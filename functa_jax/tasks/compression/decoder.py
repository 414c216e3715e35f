"""How pictures depend on latents: the Jacobian of a functa's decoder, transposed."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from functa_jax.model import siren
from functa_jax.training.batches import in_batches

BATCH = 256


def pulled_noise(functa, latents, seed=0):
    """J'v for each of latents (n, ...): J the Jacobian of its picture, v random signs; float32.

    The mean of its outer product with itself is the mean of J'J.
    """
    shape = np.shape(siren.arrange(functa.config, np.zeros((1, *_image_shape(functa)))))[1:]
    signs = np.random.default_rng(seed).integers(0, 2, (len(latents), *shape), np.int8) * 2 - 1
    pull = _compiled(functa.config)
    points = siren.points(functa.config, functa.resolution)
    return in_batches(
        lambda z, v: (pull(functa.params, points, z, v),), [np.float32(latents), signs], BATCH
    )[0]


def _image_shape(functa):
    return (*functa.resolution, functa.config.channels)


@cache
def _compiled(config):
    def pull(params, points, latents, vectors):
        model = siren.with_params(config, params)

        def one(pair):
            return jax.vjp(lambda z: model(points, z), pair[0])[1](pair[1].astype(jnp.float32))[0]

        return jax.lax.map(one, (latents, vectors))

    return jax.jit(pull)
