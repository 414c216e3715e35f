"""The entropy model: what each symbol should be, given those that are decoded before it.

Blocks are decoded row by row, the symbols of a block in groups, largest variances first. A layer of
hidden units sees the blocks to the left, above, and above at both sides, and the groups before, and
says mean and scale of a Laplace distribution for each symbol of the group (as Minnen et al. 2018
and, with groups, Minnen and Singh 2020 do after their networks).

The decoder must find the very numbers of the encoder, on any machine and whatever other images are
worked on beside: so all weights and values are whole numbers (Balle et al. 2019), kept in float64,
where sums of them are exact in any order. They are trained as floats, then rounded.

Shapes: n images, B x B blocks of m symbols, H hidden units, G groups.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax

HIDDEN = 96
FIRST, GROWTH, MOST = 4, 2, 128  # symbols of the groups: the first, how they grow, the largest
LOUDNESS = 16  # steps of log2(1 + |k|) that a whole number counts
WEIGHT = 256  # steps of a weight in 1
UNIT = 64  # steps of a hidden unit in 1
MEANS, SCALES = 32, 8  # steps of a mean in 1, of a scale in an octave
OCTAVES = (-4, 9)  # scales are 2^-4 ... 2^9 steps of the quantiser
LARGEST = 2**15 - 1  # of a hidden unit
NEIGHBOURS = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # (row, column) of a block's neighbours


def groups(count):
    """Bounds of the groups of `count` symbols: int (G + 1,)."""
    bounds, size = [0], FIRST
    while bounds[-1] < count:
        bounds.append(min(count, bounds[-1] + int(size)))
        size = min(size * GROWTH, MOST)
    return bounds


@dataclass(frozen=True, eq=False)
class Context:
    """Whole-number weights, float64: around (8m, H) of the neighbours' symbols, before (2m, H) of
    those of the block itself, start (B, B, H), units (G, H), out (H, 2m), usual (B, B, 2m). Of each
    pair 2m the first m are of signed loudness, or of the mean; the others of loudness, or scale."""

    around: np.ndarray
    before: np.ndarray
    start: np.ndarray
    units: np.ndarray
    out: np.ndarray
    usual: np.ndarray

    @property
    def shape(self):
        """(B, B, m) of an image's symbols."""
        *sides, pairs = self.usual.shape
        return (*sides, pairs // 2)

    @cached_property
    def arrays(self):
        """The weights by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def walk(self, rows, choose):
        """Go through all symbols of `rows` images in the order of decoding.

        choose(place, mean, scale) -> symbols int (rows, g) of block and group `place`, an index of
        (rows, B, B, m); mean, scale float32 (rows, g) as `predict` gives them. Returns symbols
        int32 (rows, B, B, m), means and scales float32.
        """
        side, _, m = self.shape
        symbols = np.zeros((rows, *self.shape), np.int32)
        means, scales = (np.zeros(symbols.shape, np.float32) for _ in range(2))
        # Loudness of all symbols so far, within a border of zeros.
        loud = np.zeros((rows, side + 2, side + 2, 2 * m), np.float32)
        bounds = groups(m)
        for row, column in np.ndindex(side, side):
            here = loud[:, row + 1, column + 1]
            sums = np.tile(self.start[row, column], (rows, 1))
            if side > 1:
                seen = [loud[:, row + 1 + i, column + 1 + j] for i, j in NEIGHBOURS]
                sums += np.concatenate(seen, axis=1, dtype=np.float64) @ self.around
            for group, (first, last) in enumerate(pairwise(bounds)):
                both = np.r_[first:last, m + first : m + last]
                hidden = np.clip(np.floor((sums + self.units[group]) / WEIGHT), 0, LARGEST)
                found = hidden @ self.out[:, both] + self.usual[row, column, both]
                mean, scale = _distribution(found)
                place = np.s_[:, row, column, first:last]
                chosen = choose(place, mean, scale)
                symbols[place], means[place], scales[place] = chosen, mean, scale
                here[:, both] = loudness(chosen)
                sums += here[:, both].astype(np.float64) @ self.before[both]
        return symbols, means, scales

    def predict(self, symbols):
        """(mean, scale) float32 (n, B, B, m) of the distribution of each of symbols (n, B, B, m).

        In steps of the quantiser; scale is that of Laplace, exp(-|k - mean| / scale) / (2 scale).
        """
        return self.walk(len(symbols), lambda place, *_: symbols[place])[1:]


def loudness(symbols):
    """Whole numbers (..., 2g) that the network sees of symbols (..., g): signed, then unsigned."""
    loud = np.rint(LOUDNESS * np.log2(1.0 + np.abs(symbols)))
    return np.concatenate([np.sign(symbols) * loud, loud], axis=-1)


def _distribution(found):
    """(mean, scale) of sums (rows, 2g) of the last layer, in steps of 1 / (UNIT * WEIGHT)."""
    mean, scale = np.split(found, 2, axis=1)
    mean = np.floor(mean * (MEANS / (UNIT * WEIGHT)) + 0.5) / MEANS
    scale = np.floor(scale * (SCALES / (UNIT * WEIGHT)) + 0.5) / SCALES
    return np.float32(mean), np.float32(np.exp2(np.clip(scale, *OCTAVES)))


def laplace_bits(symbols, mean, scale, library=np):
    """-log2 of the probability of whole `symbols` under rounded Laplace distributions."""
    near = library.abs(symbols - mean)
    tail = (near - 0.5) / scale - library.log(-library.expm1(-1 / scale)) + np.log(2)
    inside = library.exp(-(near + 0.5) / scale) + library.exp(
        library.minimum(near - 0.5, 0) / scale
    )
    middle = -library.log1p(-library.minimum(inside / 2, 1 - 1e-6))
    return library.where(near > 0.5, tail, middle) / np.log(2)


# ---- training ----

# Its rate comes later: so one compiled step does for all schedules.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale(-1.0))


def train(symbols, held, *, steps=600, rate=3e-3, images=64, seed=0, begin=None):
    """The Context of symbols like int (n, B, B, m); `held` ones say which step's weights are best.

    images: of a training step. begin: the Context to start from, else one that knows each symbol's
    mean deviation alone.
    Returns it and the bits of an image of `held`.
    """
    begin = begin or _without_context(symbols, seed)
    if not steps:
        return begin, ideal_bits(begin, held)
    weights = {name: jnp.asarray(v, jnp.float32) for name, v in _floats(begin.arrays).items()}
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, steps // 20), steps + 1)
    random, state = np.random.default_rng(seed), OPTIMIZER.init(weights)
    best, least = begin, ideal_bits(begin, held)
    for number in range(1, steps + 1):
        rows = np.sort(random.integers(0, len(symbols), images))
        batch = jnp.asarray(symbols[rows], jnp.float32)
        weights, state = _step(weights, state, batch, schedule(number))
        if number % max(1, steps // 4) == 0:
            found = _rounded(weights)
            bits = ideal_bits(found, held)
            if bits < least:
                best, least = found, bits
    return best, least


@jax.jit
def _step(weights, state, symbols, rate):
    changes, state = OPTIMIZER.update(jax.grad(_bits)(weights, symbols), state)
    return jax.tree.map(lambda w, change: w + rate * change, weights, changes), state


def ideal_bits(context, symbols):
    """Bits of an image of symbols (n, B, B, m) under a Context, in the mean."""
    bits = laplace_bits(symbols, *context.predict(symbols))
    return float(bits.sum(dtype=np.float64) / len(symbols))


def _bits(weights, symbols):
    """Bits per symbol of float symbols (n, B, B, m): the network of `Context.walk` in floats."""
    n, side, _, m = symbols.shape
    loud = jnp.log2(1 + jnp.abs(symbols))
    seen = jnp.concatenate([jnp.sign(symbols) * loud, loud], axis=-1)
    sums = jnp.broadcast_to(weights["start"], (n, side, side, weights["start"].shape[-1]))
    if side > 1:
        padded = jnp.pad(seen, [(0, 0), (1, 1), (1, 1), (0, 0)])
        parts = [padded[:, 1 + i : 1 + i + side, 1 + j : 1 + j + side] for i, j in NEIGHBOURS]
        sums = sums + jnp.concatenate(parts, axis=-1) @ weights["around"]
    # Slices, not lists of places: their derivatives are slices, too, and fast.
    total = 0.0
    for group, (first, last) in enumerate(pairwise(groups(m))):
        pair = [slice(first, last), slice(m + first, m + last)]
        hidden = jnp.maximum(sums + weights["units"][group], 0)
        mean, scale = (
            hidden @ weights["out"][:, part] + weights["usual"][..., part] for part in pair
        )
        scale = jnp.exp2(jnp.clip(scale, *OCTAVES))
        total += laplace_bits(symbols[..., first:last], mean, scale, jnp).sum()
        sums = sums + sum(seen[..., part] @ weights["before"][part] for part in pair)
    return total / symbols.size


# Steps of each array of weights in 1.
STEPS = {
    "around": WEIGHT * UNIT // LOUDNESS,
    "before": WEIGHT * UNIT // LOUDNESS,
    "start": WEIGHT * UNIT,
    "units": WEIGHT * UNIT,
    "out": WEIGHT,
    "usual": WEIGHT * UNIT,
}

TYPES = {
    name: "<i4" if step == WEIGHT * UNIT else "<i2" for name, step in STEPS.items()
}  # in files
MOST_OF = {name: np.iinfo(kind).max for name, kind in TYPES.items()}


def _floats(arrays):
    return {name: array / STEPS[name] for name, array in arrays.items()}


def _rounded(weights):
    whole = {name: np.rint(np.float64(v) * STEPS[name]) for name, v in weights.items()}
    return Context(**{name: np.clip(v, -MOST_OF[name], MOST_OF[name]) for name, v in whole.items()})


def _without_context(symbols, seed):
    """The Context that tells each symbol's usual scale, its hidden units at random."""
    _, side, _, m = symbols.shape
    random = np.random.default_rng(seed)

    def normal(inputs, outputs):
        return random.normal(size=(inputs, outputs)) * 0.03

    deviation = np.abs(symbols).mean(axis=0)
    usual = np.concatenate([0 * deviation, np.log2(np.maximum(deviation, 0.05))], axis=-1)
    return _rounded(
        {
            "around": normal(8 * m if side > 1 else 0, HIDDEN),
            "before": normal(2 * m, HIDDEN),
            "start": np.full((side, side, HIDDEN), 0.1),
            "units": np.zeros((len(groups(m)) - 1, HIDDEN)),
            "out": np.zeros((HIDDEN, 2 * m)),
            "usual": usual,
        }
    )
