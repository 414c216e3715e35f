"""Networks that classify latents or images, and the loop that trains them.

    MLP          rows of numbers: 3 x 1024, SiLU, dropout 0.2 (functa; Dupont et al. 2022)
    Transformer  a grid of cells, a token each: width 128, 12 blocks, 16 heads (spatial functa;
                 Bauer et al. 2023)
    ConvNet      images, or grids of cells taken for images

All are trained alike: AdamW (Loshchilov & Hutter 2019) with warm-up and cosine decay, smoothed
labels, and what is evaluated is a moving average of the weights. Batches are drawn from data that
stays on the device, and may be mixed (mixup, Zhang et al. 2018: convex combinations of two examples
and of their labels), made noisy, or robbed of whole cells.

Shapes: B examples in a batch, n in all; one example has the shape (d,), (s, s, c) or (h, w, c).
"""

from functools import partial
from itertools import pairwise
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


class MLP(nnx.Module):
    """`depth` hidden layers, each with SiLU and dropout; any example is taken as a row."""

    def __init__(self, numbers, classes, width=1024, depth=3, dropout=0.2, *, rngs):
        sizes = [numbers, *[width] * depth]
        self.hidden = nnx.List(nnx.Linear(m, n, rngs=rngs) for m, n in pairwise(sizes))
        self.head = nnx.Linear(width, classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x, key=None):
        """Logits (B, classes) of examples; with a key as when training, with dropout."""
        x = x.reshape(len(x), -1)
        for number, layer in enumerate(self.hidden):
            x = _dropped(self.dropout, nnx.silu(layer(x)), key, number)
        return self.head(x)


class Block(nnx.Module):
    """Attention, then two linear layers, each on normalised tokens and added to them (pre-LN)."""

    def __init__(self, width, heads, *, rngs):
        self.norms = nnx.List(nnx.LayerNorm(width, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.grow = nnx.Linear(width, 2 * width, rngs=rngs)
        self.shrink = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, tokens):
        """Tokens (B, T, width) -> the same shape."""
        tokens = tokens + self.attention(self.norms[0](tokens))
        return tokens + self.shrink(nnx.gelu(self.grow(self.norms[1](tokens))))


class Transformer(nnx.Module):
    """Cells are tokens with learned positions; a further token gathers what the head reads."""

    def __init__(self, shape, classes, width=128, blocks=12, heads=16, dropout=0.1, *, rngs):
        cells, start = shape[0] * shape[1], nnx.initializers.normal(0.02)
        self.embed = nnx.Linear(shape[2], width, rngs=rngs)
        self.gather = nnx.Param(start(rngs.params(), (1, 1, width)))
        self.positions = nnx.Param(start(rngs.params(), (cells + 1, width)))
        # One block with stacked weights, so that the twelve are compiled once.
        keys = jax.random.split(rngs.params(), blocks)
        self.blocks = nnx.vmap(lambda key: Block(width, heads, rngs=nnx.Rngs(key)))(keys)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x, key=None):
        """Logits (B, classes) of grids (B, s, s, c); with a key as when training."""
        tokens = self.embed(x.reshape(len(x), -1, x.shape[-1]))
        first = jnp.broadcast_to(self.gather[...], (len(x), *self.gather.shape[1:]))
        tokens = jnp.concatenate([first, tokens], axis=1) + self.positions[...]
        graph, weights = nnx.split(self.blocks)
        tokens, _ = jax.lax.scan(lambda t, w: (nnx.merge(graph, w)(t), None), tokens, weights)
        return self.head(_dropped(self.dropout, self.norm(tokens[:, 0]), key))


class ConvNet(nnx.Module):
    """Three 3x3 convolutions, with halving while four pixels a side are left, and a linear map."""

    def __init__(self, shape, classes, channels=32, dropout=0.2, *, rngs):
        widths = [shape[2], channels, 2 * channels, 4 * channels]
        self.layers = nnx.List(nnx.Linear(9 * m, n, rngs=rngs) for m, n in pairwise(widths))
        self.norms = nnx.List(nnx.GroupNorm(n, 4, rngs=rngs) for n in widths[1:])
        sides = np.array(shape[:2])
        for _ in self.layers:
            sides = sides // 2 if min(sides) >= 4 else sides
        self.head = nnx.Linear(int(np.prod(sides)) * widths[-1], classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x, key=None):
        """Logits (B, classes) of images or grids (B, h, w, c); with a key as when training."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = nnx.silu(norm(layer(patches(x))))
            x = halved(x) if min(x.shape[1:3]) >= 4 else x
        return self.head(_dropped(self.dropout, x.reshape(len(x), -1), key))


def patches(x):
    """Each pixel of (B, h, w, c) with its eight neighbours, zeros beyond the border: (B, h, w, 9c).

    A linear map of it is a 3x3 convolution, whose gradient XLA computes slowly on CPUs.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    shifts = [(i, j) for i in range(3) for j in range(3)]
    return jnp.concatenate([padded[:, i : i + height, j : j + width] for i, j in shifts], axis=-1)


def halved(x):
    """The largest of each 2x2 pixels of (B, h, w, c); an odd last row or column is left out."""
    height, width = x.shape[1:3]
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    # The gradient of `max` divides by how many are equal to it, which is none where XLA computes
    # them a second time with other rounding; that of `maximum` only compares.
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def _dropped(dropout, x, key, number=0):
    if key is None:
        return x
    return dropout(x, deterministic=False, rngs=jax.random.fold_in(key, number))


# ---- training ----


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


@partial(jax.jit, static_argnums=0)
def _logits(graph, weights, x):
    network = nnx.merge(graph, weights)
    return jax.lax.map(lambda one: network(one[None])[0], x, batch_size=256)


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

    def logits(self, x):
        """Examples (n, ...) -> NumPy (n, classes)."""
        padded = _padded(np.asarray(x, np.float32))
        return np.asarray(_logits(self.graph, self.weights, padded))[: len(x)]


def fresh(build, seed=0):
    """(graph, weights) of the untrained network that build(rngs) makes."""
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
    x, y, count = _padded(np.asarray(x, np.float32)), _padded(np.asarray(y, np.int32)), len(x)
    x, y = devices.put((x, y), mesh)
    state = _begin(devices.put(jax.device_get(weights), mesh), recipe)
    # Not the key that `fresh` drew the weights with.
    key = jax.random.fold_in(jax.random.key(seed), seeds.number("steps"))
    fixed = {"classes": classes, "batch": batch, "mesh": mesh}
    for number, begin in enumerate(range(0, recipe.steps, each)):
        if refresh is not None:
            start, new = refresh(number)
            x = _written(x, new, start)
        end = min(begin + each, recipe.steps)
        state, loss = _advance(graph, state, x, y, count, recipe, key, begin, end, **fixed)
        if not np.isfinite(loss):
            raise UserError(f"the loss is not finite by step {end:,}; lower --rate")
        if advanced is not None:
            advanced(end - begin, float(loss))
    return Trained(graph, jax.device_get(state[2]))
