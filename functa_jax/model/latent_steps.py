"""What a decoder tells the inner loop: where a latent starts, and how far a step takes it."""

import jax
import jax.numpy as jnp
from flax import nnx


class LatentSteps(nnx.Module):
    """The base of all decoders. A decoder has `config`, a ModelConfig, and

    __call__(coords, latent)  colours of the image with this latent, at `siren.points`
    at(coords, latent)        the same (N, C) at any points (N, 2) in [0, 1]^2
    """

    def learn_rates(self, rngs):
        """Make the learned rates, unless they are constant: (L,), or (K, L) with those of K
        steps."""
        config = self.config
        if config.inner_rate is not None:
            return
        shape = (config.latent_dim,)
        if config.rate_start is None:  # DeepMind's initial range of meta-SGD rates
            rates = jax.random.uniform(rngs.params(), shape, jnp.float32, 0.005, 0.1)
        else:
            rates = jnp.full(shape, config.rate_start, jnp.float32)
        if config.step_rates is not None:
            rates = jnp.stack([rates] * config.step_rates)
        self.inner_rate = nnx.Param(rates)

    def start(self, image):
        """The latent of an image (N, C) before the first step: zeros."""
        return jnp.zeros(self.config.latent_shape, image.dtype)

    def step(self, gradient, number):
        """What step `number` (0 first) of the inner loop subtracts from a latent.

        gradient: of the loss of one cell, shaped like the latent.
        """
        if self.config.inner_rate is not None:
            return self.config.inner_rate * gradient
        rate = jnp.asarray(self.inner_rate[...])
        if self.config.step_rates is not None:
            rate = rate[jnp.minimum(number, self.config.step_rates - 1)]
        return rate * gradient
