"""The training of networks that classify.

All are trained alike: AdamW (Loshchilov & Hutter 2019) with warm-up and cosine decay, smoothed
labels, and what is evaluated is a moving average of the weights. Batches are drawn from data that
stays on the device, and may be mixed (mixup, Zhang et al. 2018: convex combinations of two examples
and of their labels), made noisy, or robbed of whole cells.

Shapes: B examples in a batch, n in all; one example has the shape (d,), (s, s, c) or (h, w, c).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from scipy import stats

from functa_jax.training import devices
from groundfloor import seeds
from groundfloor.errors import UserError


class Recipe(NamedTuple):
    """Numbers that decide a training; none of them makes JAX compile anew.

    steps: of AdamW; rate: its highest, after 5 % of the steps; decay: of weights; smoothing: share
    of a label that goes to all classes; ema: decay of the average of weights; shares: of mixup, as
    from `mixing_shares`; noise: standard deviation of what is added to examples, which have about
    one; drop: probability that a cell becomes zero.
    """

    steps: int
    rate: float = 1e-3
    decay: float = 0.1
    smoothing: float = 0.1
    ema: float = 0.999
    shares: np.ndarray = np.ones(1024, np.float32)
    noise: float = 0.0
    drop: float = 0.0


def mixing_shares(strength):
    """1,024 equally likely values that stand for Beta(strength, strength); ones at strength 0.

    Drawing from them takes the place of drawing from the distribution, whose sampler would take
    longer to compile than all the rest.
    """
    if strength == 0:
        return np.ones(1024, np.float32)
    middles = (np.arange(1024) + 0.5) / 1024
    return np.float32(stats.beta.ppf(middles, strength, strength))


def mixed(key, x, y, shares):
    """Mixup of a batch: examples (B, ...) and soft labels (B, classes), each with another one of
    the batch, of which it keeps a share drawn from `shares`."""
    order, draw = jax.random.split(key)
    kept = jax.random.choice(draw, jnp.asarray(shares), (len(x),))
    other = jax.random.permutation(order, len(x))

    def mix(a):
        weights = kept.reshape(-1, *[1] * (a.ndim - 1))
        return weights * a + (1 - weights) * a[other]

    return mix(x), mix(y)


def without_cells(key, x, probability):
    """Grids (B, s, s, c) with whole cells set to zero; rows (B, d) as they are."""
    if x.ndim < 4:
        return x
    return x * (jax.random.uniform(key, (*x.shape[:3], 1)) >= probability)


def augmented(key, x, y, recipe):
    """A batch as the network sees it: cells dropped, noise added, mixed."""
    keys = jax.random.split(key, 3)
    x = without_cells(keys[0], x, recipe.drop)
    x = x + recipe.noise * jax.random.normal(keys[1], x.shape, x.dtype)
    return mixed(keys[2], x, y, recipe.shares)


def _optimizer(recipe):
    warmup = jnp.ceil(0.05 * recipe.steps)

    def rate(step):
        rise = jnp.minimum(1.0, (step + 1) / warmup)
        return recipe.rate * rise * 0.5 * (1 + jnp.cos(jnp.pi * step / recipe.steps))

    return optax.adamw(rate, weight_decay=recipe.decay)


def _begin(weights, recipe):
    """Weights, the optimizer's state, and the moving average of weights."""
    average = jax.tree.map(jnp.copy, weights)  # of its own: the state is donated
    return jax.tree.map(jnp.copy, weights), _optimizer(recipe).init(weights), average


@partial(jax.jit, static_argnames=("graph", "classes", "batch", "mesh"), donate_argnames="state")
def _advance(graph, state, x, y, count, recipe, key, begin, end, *, classes, batch, mesh):
    """The state after the steps begin .. end - 1, and the mean loss of these steps.

    x (n, ...), y (n,) stay on the device; every step draws a batch from the first `count` of them,
    with replacement, of which each device of the mesh takes a share.
    """
    shared = NamedSharding(mesh, PartitionSpec(devices.AXIS))

    def loss_of(weights, x, y, key):
        logits = nnx.merge(graph, weights)(x, key)
        return optax.softmax_cross_entropy(logits, y).mean()

    def step(number, carried):
        (weights, moments, average), total = carried
        draw, change, drop = jax.random.split(jax.random.fold_in(key, number), 3)
        rows = jax.random.randint(draw, (batch,), 0, count)
        soft = optax.smooth_labels(jax.nn.one_hot(y[rows], classes), recipe.smoothing)
        seen = jax.lax.with_sharding_constraint(augmented(change, x[rows], soft, recipe), shared)
        loss, gradient = jax.value_and_grad(loss_of)(weights, *seen, drop)
        update, moments = _optimizer(recipe).update(gradient, moments, weights)
        weights = optax.apply_updates(weights, update)
        # In the beginning the average forgets faster, or it would remember the random start.
        memory = jnp.minimum(recipe.ema, (1 + number) / (10 + number))
        average = optax.incremental_update(weights, average, 1 - memory)
        return (weights, moments, average), total + loss

    state, total = jax.lax.fori_loop(begin, end, step, (state, 0.0))
    return state, total / jnp.maximum(end - begin, 1)


@partial(jax.jit, static_argnames=("graph", "method"))
def _outputs(graph, weights, x, method):
    apply = getattr(nnx.merge(graph, weights), method)
    return jax.lax.map(lambda one: apply(one[None])[0], x, batch_size=256)


@partial(jax.jit, donate_argnums=0)
def _written(rows, new, start):
    return jax.lax.dynamic_update_slice_in_dim(rows, new, start, 0)


def _padded(rows):
    """Rows (n, ...) and zeros, of few sizes: one compilation serves many folds and splits."""
    return np.pad(rows, [(0, -len(rows) % 1024)] + [(0, 0)] * (rows.ndim - 1))


class Trained(NamedTuple):
    """A trained network."""

    graph: nnx.GraphDef
    weights: nnx.State

    def outputs(self, x, method="__call__"):
        """What a method of the network, here its logits, makes of examples (n, ...): (n, d)."""
        rows = _padded(np.asarray(x, np.float32))
        return np.asarray(_outputs(self.graph, self.weights, rows, method))[: len(x)]


def fresh(build, seed=0):
    """(graph, weights) of the untrained network that build(rngs) makes; seed: a number or a key."""
    return nnx.split(build(nnx.Rngs(seed)))


def train(
    network, recipe, x, y, *, classes, batch=128, seed=0, refresh=None, advanced=None, each=50
):
    """Train `network`, as from `fresh`, on examples x (n, ...) float32 and labels y (n,).

    refresh(round) -> (first row, new examples) replaces examples before every round of `each`
    steps, which is how augmented images come in as training goes; advanced(steps, loss) is called
    after it. Decided by the seed alone, up to rounding on other numbers of devices. Returns
    Trained, with averaged weights; raises UserError if the loss is not finite.
    """
    graph, weights = network
    # The cores of a CPU share one matrix product better than each its own copy of all weights.
    mesh = devices.data_mesh(1 if jax.default_backend() == "cpu" else batch)
    count, x, y = len(x), np.asarray(x, np.float32), np.asarray(y, np.int32)
    x, y = devices.put((_padded(x), _padded(y)), mesh)
    state = _begin(devices.put(jax.device_get(weights), mesh), recipe)
    # Not the key that `fresh` drew the weights with.
    key = jax.random.fold_in(jax.random.key(seed), seeds.number("steps"))
    advance = partial(_advance, graph, classes=classes, batch=batch, mesh=mesh)
    for number, begin in enumerate(range(0, recipe.steps, each)):
        if refresh is not None:
            start, new = refresh(number)
            x = _written(x, new, start)
        end = min(begin + each, recipe.steps)
        state, loss = advance(state, x, y, count, recipe, key, begin, end)
        if not np.isfinite(loss):
            raise UserError(f"the loss is not finite by step {end:,}; lower --rate")
        if advanced is not None:
            advanced(end - begin, float(loss))
    return Trained(graph, jax.device_get(state[2]))
