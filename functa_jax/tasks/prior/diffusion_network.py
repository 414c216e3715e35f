"""The denoiser of the latent prior: a residual MLP for vectors, a small DiT for grids of cells."""

from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from functa_jax.tasks.prior.diffusion_process import HALF_TURN
from groundfloor import checks
from groundfloor.checks import Count, Positive, Share, ShareBelowOne


@dataclass(frozen=True)
class PriorConfig(checks.Settings):
    """Settings of the denoiser and of its training."""

    width: Count = 128
    """Width of the denoiser."""
    blocks: Count = 3
    """Residual blocks of the denoiser."""
    heads: Count = 4
    """Attention heads, for grids of cells."""
    prior_steps: Count = 2000
    """Training steps; the weights with the lowest validation loss are kept."""
    prior_batch: Count = 128
    """Latents per training step."""
    prior_rate: Positive = 1e-3
    """Highest learning rate (Adam, 200 steps of warm-up, then a cosine to zero)."""
    drop_labels: Share = 0.15
    """Share of latents that are shown without their class, for guidance."""
    ema: ShareBelowOne = 0.998
    """Decay of the averaged weights, which are the ones used."""

    def __post_init__(self):
        super().__post_init__()
        possible = self.width % 2 == 0 and self.width % self.heads == 0
        why = f"must be even and a multiple of --heads {self.heads}"
        checks.require(possible, "width", self.width, why)


class Block(nnx.Module):
    """A transformer block with adaLN-zero (Peebles & Xie 2023, section 3.2).

    A single token has no one to attend to: what remains is a residual MLP.
    """

    def __init__(self, width, heads, tokens, *, rngs):
        self.parts = 2 if tokens > 1 else 1
        if tokens > 1:
            self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)
        self.modulation = _zero_linear(width, 3 * self.parts * width, rngs)

    def __call__(self, h, condition):
        """h (B, tokens, width), condition (B, width) -> (B, tokens, width)."""
        (*scale_shift_gates,) = jnp.split(self.modulation(condition)[:, None], 3 * self.parts, -1)
        if self.parts == 2:
            scale, shift, gate = scale_shift_gates[3:]
            h = h + gate * self.attention(_normed(h) * (1 + scale) + shift)
        scale, shift, gate = scale_shift_gates[:3]
        return h + gate * self.down(jax.nn.silu(self.up(_normed(h) * (1 + scale) + shift)))


class Denoiser(nnx.Module):
    """v(z, phi, class): a residual MLP for vectors, a small DiT over the cells of grids.

    Class number num_classes stands for none. The output starts at zero, which is right for
    latents that are N(0, 1).
    """

    def __init__(self, config, latent_shape, num_classes, *, rngs):
        width, numbers = config.width, latent_shape[-1]
        tokens = int(np.prod(latent_shape[:-1]))
        self.shape = (tokens, numbers)
        self.enter = nnx.Linear(numbers, width, rngs=rngs)
        self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (tokens, width)))
        self.angle = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.classes = nnx.Embed(num_classes + 1, width, rngs=rngs)
        self.blocks = nnx.List(
            [Block(width, config.heads, tokens, rngs=rngs) for _ in range(config.blocks)]
        )
        self.modulation = _zero_linear(width, 2 * width, rngs)
        self.leave = _zero_linear(width, numbers, rngs)

    def __call__(self, z, phi, labels):
        """z (B, *latent_shape), phi (B,), labels int (B,) -> v like z."""
        first, second = self.angle
        condition = second(jax.nn.silu(first(_waves(phi, first.in_features))))
        condition = jax.nn.silu(condition + self.classes(labels))
        h = self.enter(z.reshape(len(z), *self.shape)) + self.place[...]
        for block in self.blocks:
            h = block(h, condition)
        scale, shift = jnp.split(self.modulation(condition)[:, None], 2, -1)
        return self.leave(_normed(h) * (1 + scale) + shift).reshape(z.shape)


def _zero_linear(fan_in, fan_out, rngs):
    return nnx.Linear(fan_in, fan_out, kernel_init=nnx.initializers.zeros, rngs=rngs)


def _normed(h):
    return jax.nn.standardize(h, epsilon=1e-6)


def _waves(phi, width):
    """Sines and cosines (B, width) of angles (B,), as of positions 0 to 1000 in a transformer."""
    frequencies = jnp.exp(-jnp.log(1e4) * jnp.arange(width // 2) / (width // 2))
    turns = 1000 * phi[:, None] / HALF_TURN * frequencies
    return jnp.concatenate([jnp.cos(turns), jnp.sin(turns)], axis=-1)


@cache
def graph(network):
    """The nnx graph definition of Denoiser(*network)."""
    return nnx.split(nnx.eval_shape(lambda: Denoiser(*network, rngs=nnx.Rngs(0))))[0]


@partial(jax.jit, static_argnums=0)
def fresh(network, key):
    """Fresh parameters, a nested dict of arrays, of Denoiser(*network)."""
    return nnx.to_pure_dict(nnx.state(Denoiser(*network, rngs=nnx.Rngs(key))))
