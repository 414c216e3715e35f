"""Many SIRENs at once, each fitted to an image of its own (Sitzmann et al. 2020).

Such networks share nothing but their shape, so n of them are one array of weights (n, P). The fit
is written for one vector of P numbers and mapped over networks; every device takes a share of them,
and works on as many side by side as its cache (of a GPU its memory) holds.

Shapes: n networks, P numbers in each, N points (pixels), C channels.
"""

import time
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec

from functa_jax.images import signals
from functa_jax.model.siren import Siren, coordinate_grid
from functa_jax.training import devices
from functa_jax.training.inner_loop import images_at_once, over_images
from groundfloor.errors import UserError
from groundfloor.seeds import number

NETWORKS = PartitionSpec(devices.AXIS)
SINE_FLOPS = 150  # one sine with its derivatives and Adam, in time, about
STEP_SECONDS = 1e-3  # of a step of however small networks on a CPU, about


@dataclass(frozen=True)
class Shape:
    """What fixes a SIREN's size and its function, given its weights (see `siren.Siren`).

    start_scale: what the initial weights of all layers but the last are multiplied by; biases start
    at zero. 2 to 3 fits single images faster ("Fast training of sinusoidal neural fields via
    scaling initialization", ICLR 2025).
    """

    width: int
    depth: int
    channels: int
    w0: float = 30.0
    start_scale: float = 1.0

    @property
    def parameters(self):
        """P: 2 -> width -> ... -> width -> channels, all with biases."""
        width = self.width
        hidden = (self.depth - 2) * (width + 1) * width
        return 3 * width + hidden + (width + 1) * self.channels

    def forward_flops(self, points):
        """Multiply-adds of one forward pass, twice their number."""
        inner = (self.depth - 2) * self.width**2
        return 2 * points * (2 * self.width + inner + self.width * self.channels)

    def step_flops(self, points):
        """Of a step: products forward and backward, and sines as what takes as long."""
        sines = (self.depth - 1) * self.width * points
        return 3 * self.forward_flops(points) + SINE_FLOPS * sines


class Fit(NamedTuple):
    """n fitted networks: weights (n, P), and their mean squared errors (R, n) after `steps` (R,).

    seconds: what the fit took, all networks together, without compilation.
    """

    weights: np.ndarray
    steps: np.ndarray
    errors: np.ndarray
    seconds: float


def network(shape, weights):
    """The SIREN with these weights (P,): colours (N, C) of coordinates (N, 2)."""
    graph, tree, places = _layout(shape)
    parts = jnp.split(weights, np.cumsum([np.prod(size) for size in places])[:-1])
    leaves = [part.reshape(size) for part, size in zip(parts, places, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, leaves))


def _fresh(shape, key):
    model = Siren(shape.width, shape.depth, shape.channels, shape.w0, rngs=nnx.Rngs(key))
    for layer in model.layers[:-1]:
        layer.kernel[...] = shape.start_scale * layer.kernel[...]
    return model


@cache
def _layout(shape):
    """nnx graph definition, tree and leaf shapes of the parameters."""
    graph, state = nnx.split(nnx.eval_shape(lambda: _fresh(shape, jax.random.key(0))))
    leaves, tree = jax.tree.flatten(state)
    return graph, tree, tuple(leaf.shape for leaf in leaves)


def init(shape, seeds):
    """Initial weights (n, P), each of its own seed (n,): what `siren.Siren` starts with, scaled."""
    # Not compiled as a whole: depths then share what JAX compiles for one layer.
    different, places = np.unique(seeds, return_inverse=True)
    rows = []
    for seed in different:
        leaves = jax.tree.leaves(nnx.state(_fresh(shape, jax.random.key(seed))))
        rows.append(np.concatenate([np.ravel(leaf) for leaf in leaves]))
    return np.stack(rows)[places]


def fit(shape, images, seeds, *, steps, rates, points=None, records=(), advanced=None):
    """Fit one network to each image by Adam on the mean squared error.

    images (n, h, w, C), uint8 or floats in [0, 1]; seeds (n,) of initial weights and drawn pixels;
    rates: Adam's, one or (n,), falling to zero along a cosine; points: random pixels per step,
    None for all; records: steps after which errors over all pixels are kept (beside 0 and the
    last); advanced(steps, errors (n,)) is called at each of them.

    What becomes of a network depends on its image, seed and rate alone. Raises UserError if an
    error is not finite, and for images as signals.checked does.
    """
    images = signals.to_float(signals.checked(images))
    n, height, width, _ = images.shape
    points = None if points is None or points >= height * width else points
    mesh = devices.data_mesh(n)
    put = partial(devices.put, mesh=mesh, spec=NETWORKS)
    coords = devices.put(np.asarray(coordinate_grid(height, width)), mesh)
    targets = put(images.reshape(n, height * width, -1))
    seeds = np.broadcast_to(np.asarray(seeds, np.uint32), n)
    each = put((seeds, np.broadcast_to(np.asarray(rates, np.float32), n)))
    weights = init(shape, seeds)
    state = put((weights, jax.device_get(jax.vmap(ADAM.init)(weights))))

    advance = _advance(shape, points, mesh)
    ends = sorted({0, steps, *(k for k in records if k < steps)})
    state, error = advance(state, coords, targets, *each, 0, 0, steps)  # compiles; no step
    errors, began = [np.asarray(error)], time.perf_counter()
    for begin, end in pairwise(ends):
        state, error = advance(state, coords, targets, *each, begin, end, steps)
        errors.append(np.asarray(error))
        if not np.isfinite(errors[-1]).all():
            raise UserError(f"the error is not finite by step {end:,} of {shape}; lower --rate")
        if advanced is not None:
            advanced(end - begin, errors[-1])
    seconds = time.perf_counter() - began
    return Fit(np.asarray(state[0]), np.array(ends), np.array(errors), seconds)


ADAM = optax.scale_by_adam()


@cache
def _advance(shape, points, mesh):
    """(state, coords, targets, seeds, rates, begin, end, steps) -> state after the steps
    begin .. end - 1 of `steps`, and the errors (n,) there."""

    def error_of(weights, coords, target):
        return jnp.mean((network(shape, weights)(coords) - target) ** 2)

    def train(coords, begin, end, steps, one):
        state, target, seed, rate = one

        def step(k, state):
            weights, moments = state
            x, y = coords, target
            if points is not None:
                stream = jax.random.fold_in(jax.random.key(seed), number("pixels"))
                key = jax.random.fold_in(stream, k)
                drawn = jax.random.randint(key, (points,), 0, len(coords))
                x, y = coords[drawn], target[drawn]
            gradient = jax.grad(error_of)(weights, x, y)
            update, moments = ADAM.update(gradient, moments)
            cosine = 0.5 * (1 + jnp.cos(jnp.pi * k / steps))
            return weights - rate * cosine * update, moments

        return jax.lax.fori_loop(begin, end, step, state)

    def share(state, coords, targets, seeds, rates, begin, end, steps):
        n, pixels, _ = targets.shape
        state = over_images(
            partial(train, coords, begin, end, steps),
            (state, targets, seeds, rates),
            images_at_once(points or pixels, n),
        )
        errors = over_images(
            lambda one: error_of(one[0], coords, one[1]),
            (state[0], targets),
            images_at_once(pixels, n),
        )
        return state, errors

    mine, all_ = NETWORKS, devices.REPLICATED
    return jax.jit(
        jax.shard_map(
            share,
            mesh=mesh,
            in_specs=(mine, all_, mine, mine, mine, all_, all_, all_),
            out_specs=(mine, mine),
            check_vma=False,
        )
    )


def marks(steps, count=30):
    """About `count` steps up to `steps`, evenly spaced on a logarithmic axis."""
    return sorted({round(k) for k in np.geomspace(1, steps, count)})


def pictures(shape, weights, height, width, box=(0.0, 0.0, 1.0, 1.0)):
    """What networks (n, P) show: float32 (n, height, width, C), not clipped.

    box: (top, left, bottom, right) of what is shown, in [0, 1].
    """
    (top, left, bottom, right), grid = box, coordinate_grid(height, width)
    coords = jnp.array([top, left]) + grid * jnp.array([bottom - top, right - left])
    colours = np.asarray(_render(shape, weights, coords))
    return colours.reshape(len(weights), height, width, -1)


@partial(jax.jit, static_argnums=0)
def _render(shape, weights, coords):
    return jax.lax.map(lambda one: network(shape, one)(coords), weights)


@partial(jax.jit, static_argnums=0)
def derivatives(shape, weights, coords):
    """Gradient (N, C, 2) and Hessian (N, C, 2, 2) of one network (P,) at coordinates (N, 2).

    Exact, by forward-mode differentiation; per unit of the coordinates, (row, column) order.
    """
    model = network(shape, weights)

    def at(point):
        return model(point[None])[0]

    gradient = jax.jacfwd(at)
    return jax.lax.map(
        lambda point: (gradient(point), jax.jacfwd(gradient)(point)), coords, batch_size=1024
    )
