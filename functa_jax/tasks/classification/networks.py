"""Networks that classify latents or images.

    MLP          rows of numbers: 3 x 1024, SiLU, dropout 0.2 (functa; Dupont et al. 2022)
    Transformer  a grid of cells, a token each: width 128, 12 blocks, 16 heads (spatial functa;
                 Bauer et al. 2023)
    ConvNet      images, or grids of cells taken for images

Shapes: B examples in a batch; one example has the shape (d,), (s, s, c) or (h, w, c).
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


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
