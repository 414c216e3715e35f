"""SIREN, and the modulated SIREN that turns a latent into an image.

A SIREN (Sitzmann et al. 2020) maps coordinates to colours through sine layers. In the
modulated SIREN (Dupont et al. 2022, "From data to functa", section 3) every image shares its
weights and owns one latent z, from which a linear map makes a shift (and, if asked, a scale)
for each unit of each sine layer:

    h <- sin(w0 * (scale * (W h + b) + shift)),      (shift, scale - 1) = z A + a.

Shapes: N points, W width, D depth (all linear layers), L latent size, C channels.
"""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from functa_jax.sine import sine


def coordinate_grid(height, width=None):
    """Pixel centres of an image in [0, 1]^2, (row, column) order: float32 (height * width, 2)."""
    sides = [(jnp.arange(n, dtype=jnp.float32) + 0.5) / n for n in (height, width or height)]
    return jnp.stack(jnp.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class ModelConfig:
    """What fixes a modulated SIREN's shapes and its function, given its parameters.

    depth counts every linear layer: first, depth - 2 hidden ones, last. modulation is "shift"
    or "scale_shift". inner_rate is None for meta-SGD (one learned rate per latent number, as
    in DeepMind's functa), or the constant rate of the inner loop.
    """

    channels: int
    width: int
    depth: int
    latent_dim: int
    w0: float = 30.0
    modulation: str = "shift"
    inner_rate: float | None = None


class Siren(nnx.Module):
    """A SIREN of `depth` linear layers, 2 -> width -> ... -> channels.

    Weights start as in Sitzmann et al. (2020), section 3.2: U(-1/fan_in, 1/fan_in) in the
    first layer, U(+-sqrt(6/fan_in)/w0) after it; biases at zero.
    """

    def __init__(self, width, depth, channels, w0, *, rngs):
        self.w0 = w0
        sizes = [2, *[width] * (depth - 1), channels]

        def uniform(bound):
            return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
                key, shape, dtype, -bound, bound
            )

        bounds = [1 / 2, *[(6 / width) ** 0.5 / w0] * (depth - 1)]
        self.layers = nnx.List(
            nnx.Linear(fan_in, fan_out, kernel_init=uniform(bound), rngs=rngs)
            for fan_in, fan_out, bound in zip(sizes, sizes[1:], bounds, strict=False)
        )

    def __call__(self, coords, shifts=0.0, scales=1.0):
        """Colours (N, C) at coords (N, 2); shifts and scales (D - 1, W), or one number for all.

        Targets live in [0, 1], hence the 0.5 that is added to the last, linear, layer.
        """
        *hidden, last = self.layers
        shape = (len(hidden), last.kernel.shape[0])
        shifts, scales = jnp.broadcast_to(shifts, shape), jnp.broadcast_to(scales, shape)
        h = coords
        for layer, shift, scale in zip(hidden, shifts, scales, strict=True):
            h = sine(self.w0 * (scale * layer(h) + shift))
        return last(h) + 0.5


class ModulatedSiren(nnx.Module):
    """The shared network of a functa: SIREN, latent -> modulations, and the inner loop's rates."""

    def __init__(self, config: ModelConfig, *, rngs):
        self.config = config
        self.siren = Siren(config.width, config.depth, config.channels, config.w0, rngs=rngs)
        per_unit = 2 if config.modulation == "scale_shift" else 1
        # Lecun's truncated normal and zero biases: haiku's defaults, hence DeepMind's.
        self.latent_map = nnx.Linear(
            config.latent_dim, per_unit * (config.depth - 1) * config.width, rngs=rngs
        )
        if config.inner_rate is None:  # DeepMind's initial range of meta-SGD rates
            rates = jax.random.uniform(
                rngs.params(), (config.latent_dim,), minval=0.005, maxval=0.1
            )
            self.inner_rate = nnx.Param(rates)

    def __call__(self, coords, latent):
        """Colours (N, C) of the image with this latent (L,) at coords (N, 2)."""
        depth, width = self.config.depth, self.config.width
        modulations = self.latent_map(latent)
        if self.config.modulation == "shift":
            return self.siren(coords, modulations.reshape(depth - 1, width))
        scales, shifts = jnp.moveaxis(modulations.reshape(depth - 1, 2, width), 1, 0)
        return self.siren(coords, shifts, 1 + scales)

    def rate(self):
        """Step size of the inner loop: (L,) learned, or one number."""
        rate = self.config.inner_rate
        return self.inner_rate[...] if rate is None else jnp.float32(rate)


@cache
def graph(config):
    """nnx graph definition of the model, which `nnx.merge` joins with a dict of parameters."""
    return nnx.split(nnx.eval_shape(lambda: ModulatedSiren(config, rngs=nnx.Rngs(0))))[0]


def init(config, seed):
    """Fresh parameters, a nested dict of arrays, from an integer seed."""

    @jax.jit
    def fresh(key):
        return nnx.to_pure_dict(nnx.state(ModulatedSiren(config, rngs=nnx.Rngs(key))))

    return fresh(jax.random.key(seed))


def with_params(config, params):
    """The model with these parameters: a pure function of them, to be used inside JAX code."""
    return nnx.merge(graph(config), params)


def flatten(params):
    """{"siren/layers/0/kernel": array, ...}: parameters by name, for files."""
    return {
        "/".join(map(str, path)): value
        for path, value in traverse_util.flatten_dict(params).items()
    }


def unflatten(flat):
    """The nested dict of parameters from their names."""
    return traverse_util.unflatten_dict(
        {
            tuple(int(part) if part.isdigit() else part for part in name.split("/")): value
            for name, value in flat.items()
        }
    )
