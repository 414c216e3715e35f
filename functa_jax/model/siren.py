"""SIREN, and the modulated SIREN that turns a latent into an image.

A SIREN (Sitzmann et al. 2020) maps coordinates to colours through sine layers. In the
modulated SIREN (Dupont et al. 2022, "From data to functa", section 3) every image shares its
weights and owns one latent z, from which a linear map makes a shift (and, if asked, a scale)
for each unit of each sine layer:

    h <- sin(w0 * (scale * (W h + b) + shift)),      (shift, scale - 1) = z A + a.

In spatial functa (Bauer et al. 2023) the latent is a grid of s x s cells, L numbers each, and the
shift at a point comes from the cell that it lies in, or from the cells around by interpolation.
A map over 3 x 3 cells lets neighbours share what they know.

Shapes: N points of d coordinates (2 of a picture), W width, D depth (all linear layers), L latent
size (of one cell), C channels, s cells per side, p points per cell.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from functa_jax.model import bfloat16, radiance
from functa_jax.model.config import ModelConfig
from functa_jax.model.grid import coordinate_grid, hat_weights, neighbours
from functa_jax.model.latent_steps import LatentSteps
from functa_jax.model.linear import by_rows
from functa_jax.model.refined_pca import RefinedPca
from functa_jax.model.sine import sine
from groundfloor import seeds


def has_points(config, resolution):
    """Whether `points` has the pixels of this (height, width): those of whole cells, and of a
    picture only its own."""
    if config.picture is not None:
        return tuple(resolution) == config.picture
    return all(side % (config.grid or 1) == 0 for side in resolution)


def points(config, resolution):
    """Coordinates of all pixels of an image, in the shape that the model takes.

    float32 (N, 2); for nearest cells (p, s*s, 2), or (p, 1, 2) in local coordinates, which are the
    same in each. `arrange` puts pixels in the same order.
    """
    if not config.by_cells:
        return coordinate_grid(*resolution)
    if config.coordinates == "local":
        return coordinate_grid(*(side // config.grid for side in resolution))[:, None]
    grid = coordinate_grid(*resolution).reshape(1, *resolution, 2)
    return arrange(config, grid)[0]


def arrange(config, images):
    """Images (n, h, w, C) -> pixels (n, N, C), or for nearest cells (n, p, s*s, C)."""
    n, height, width, channels = images.shape
    if not config.by_cells:
        return images.reshape(n, height * width, channels)
    s = config.grid
    cells = images.reshape(n, s, height // s, s, width // s, channels)
    pixels = (height // s) * (width // s)
    return cells.transpose(0, 2, 4, 1, 3, 5).reshape(n, pixels, s * s, channels)


def restore(config, pixels, resolution):
    """The inverse of `arrange`: images (n, h, w, C) of pixels in the order of `points`."""
    (height, width), (n, channels) = resolution, (len(pixels), pixels.shape[-1])
    if config.by_cells:
        s = config.grid
        pixels = pixels.reshape(n, height // s, width // s, s, s, channels)
        pixels = pixels.transpose(0, 3, 1, 4, 2, 5)
    return pixels.reshape(n, height, width, channels)


class Siren(nnx.Module):
    """A SIREN of `depth` linear layers, inputs -> width -> ... -> channels.

    Weights start as in Sitzmann et al. (2020), section 3.2: U(-1/fan_in, 1/fan_in) in the
    first layer, U(+-sqrt(6/fan_in)/w0) after it; biases at zero.
    """

    def __init__(self, width, depth, channels, w0, inputs=2, *, rngs):
        self.w0 = w0
        sizes = [inputs, *[width] * (depth - 1), channels]

        def uniform(bound):
            return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
                key, shape, dtype, -bound, bound
            )

        bounds = [1 / inputs, *[(6 / width) ** 0.5 / w0] * (depth - 1)]
        self.layers = nnx.List(
            nnx.Linear(fan_in, fan_out, kernel_init=uniform(bound), rngs=rngs)
            for fan_in, fan_out, bound in zip(sizes, sizes[1:], bounds, strict=False)
        )

    def __call__(self, coords, shifts=0.0, scales=1.0):
        """Colours (N, C) at coords (N, d); shifts and scales (D - 1, W), or one number for all.

        With coords (..., d), shifts may be (D - 1, ..., W): one for each point, broadcast.
        Targets live in [0, 1], hence the 0.5 that is added to the last, linear, layer.
        """
        *hidden, last = self.layers
        shifts, scales = (
            jnp.broadcast_to(x, (len(hidden), *jnp.shape(x)[1:])) for x in (shifts, scales)
        )
        h = coords
        for layer, shift, scale in zip(hidden, shifts, scales, strict=True):
            h = sine(self.w0 * (scale * by_rows(layer, h) + shift))
        return by_rows(last, h) + 0.5


class ModulatedSiren(LatentSteps):
    """The shared network of a functa: SIREN, latent -> modulations, and the inner loop's rates."""

    def __init__(self, config: ModelConfig, *, rngs):
        self.config = config
        inputs, outputs = self.sides(config)
        self.siren = Siren(config.width, config.depth, outputs, config.w0, inputs, rngs=rngs)
        self.per_unit = 2 if config.modulation == "scale_shift" else 1
        # Lecun's truncated normal and zero biases: haiku's defaults, hence DeepMind's.
        self.latent_map = nnx.Linear(
            config.map_size**2 * config.latent_dim,
            self.per_unit * (config.depth - 1) * config.width,
            rngs=rngs,
        )
        self.learn_rates(rngs)

    @staticmethod
    def sides(config):
        """Inputs and outputs of the SIREN."""
        return config.inputs, config.channels

    @property
    def layers(self):
        """Those that points go through."""
        return self.siren.layers

    def __call__(self, coords, latent):
        """Colours of the image with this latent, (L,) or (s, s, L), at `points`.

        coords (N, d) gives (N, C); for nearest cells (p, 1 or s*s, 2) gives (p, s*s, C).
        """
        if not self.config.by_cells:
            return self.at(coords, latent)
        modulations = self._of_cells(latent)
        return self._colours(coords, modulations.reshape(1, -1, modulations.shape[-1]))

    def at(self, coords, latent):
        """Colours (N, C) of the image with this latent at any points (N, d), in [0, 1]^2 if it is
        one."""
        s = self.config.grid
        if s is None:
            return self._colours(coords, self.latent_map(latent))
        of_cells, within = self._of_cells(latent), coords * s
        cell = jnp.clip(jnp.floor(within).astype(jnp.int32), 0, s - 1)
        if self.config.interpolation == "nearest":
            modulations = of_cells[cell[:, 0], cell[:, 1]]
        else:
            rows, columns = (hat_weights(x, s) for x in coords.T)
            modulations = jnp.einsum("nr,nc,rcm->nm", rows, columns, of_cells)
        local = self.config.coordinates == "local"
        return self._colours(within - cell if local else coords, modulations)

    def _of_cells(self, latent):
        return by_rows(self.latent_map, neighbours(latent, self.config.map_size))

    def _colours(self, coords, modulations):
        """Colours at coords (..., 2), with modulations (..., units of all layers)."""
        shape = (*modulations.shape[:-1], self.config.depth - 1, self.per_unit, self.config.width)
        modulations = jnp.moveaxis(modulations.reshape(shape), (-3, -2), (0, 1))
        *scales, shifts = jnp.moveaxis(modulations, 1, 0)
        return self.siren(coords, shifts, *(1 + scale for scale in scales))


class RadianceField(ModulatedSiren):
    """A scene: the SIREN is a field of colour and density in space, and rays see it.

    Its parameters have the names of an image's.
    """

    @staticmethod
    def sides(config):
        """Three coordinates; three colours and a density."""
        return 3, 4

    def at(self, coords, latent):
        """Colours (N, 3) of rays (N, 6) = origin, direction, in the scene with this latent (L,)."""
        return radiance.render(self.config, partial(super().at, latent=latent), coords)


DECODERS = {"siren": ModulatedSiren, "refined_pca": RefinedPca}


def decoder(config):
    """The class of the ModelConfig's decoder."""
    return RadianceField if config.modality == "scenes" else DECODERS[config.decoder]


def fresh(config, rngs):
    """A decoder of the kind that the ModelConfig names, with initial parameters."""
    return decoder(config)(config, rngs=rngs)


@cache
def graph(config, precision="float32"):
    """nnx graph definition of the model, which `nnx.merge` joins with a dict of parameters.

    precision: of the operands of the products in layers after the first, which are nearly all of
    the work. Coordinates and latents need more digits than bfloat16 has.
    """
    model = nnx.eval_shape(lambda: fresh(config, nnx.Rngs(0)))
    if precision == "bfloat16":
        for layer in model.layers[1:]:
            layer.dot_general = bfloat16.dot_general
    return nnx.split(model)[0]


def init(config, seed):
    """Fresh parameters, a nested dict of arrays, from an integer seed."""
    return _parameters(config, jax.random.fold_in(jax.random.key(seed), seeds.number("weights")))


@partial(jax.jit, static_argnums=0)
def _parameters(config, key):
    return nnx.to_pure_dict(nnx.state(fresh(config, nnx.Rngs(key))))


def with_params(config, params, precision="float32"):
    """The model with these parameters: a pure function of them, to be used inside JAX code.
    precision: as of `graph`."""
    return nnx.merge(graph(config, precision), params)


def check_arrays(params, fresh):
    """ValueError if params have other names, shapes or types than those that fresh() would make."""
    trees = params, jax.eval_shape(fresh)
    given, asked = (jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in trees)
    if given != asked:
        raise ValueError("its arrays are not those that its configuration asks for")


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
