"""Numbers in few bits: transform, quantiser, entropy model and range coder, and their file.

Coordinates u of `transform` are divided by one step and rounded to whole numbers k, the symbols;
`context` says mean and scale of each, with which the range coder of `constriction` (Martin 1979)
spends -log2 p(k) bits on it. Which whole number is best depends on its bits: of those at u and
nearer zero the encoder takes that with the least error + rate_weight * bits ("rate-distortion
optimised quantisation"; Sullivan and Wiegand 1998). The decoder puts k + pull * (mean - k), with a
pull for each |k| of 0, 1 and more: where numbers that were rounded to k lie in the mean.

A file, little-endian: header (magic, version, hash of the functa, images, blocks per side, cells
per side of a block, numbers of a cell, symbols of a block, hidden units, bytes of tables and of
payload), the Codec's tables (zlib), the payload, CRC-32 of all before.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import constriction
import numpy as np

from functa_jax.tasks.compression import context as contexts
from functa_jax.tasks.compression.context import Context
from functa_jax.tasks.compression.transform import Transform
from groundfloor.errors import UserError
from groundfloor.runs import atomic

MAGIC, VERSION = b"FNCT", 2
HEADER = struct.Struct("<4sB8sIHHHHHII")
CHECK = struct.Struct("<I")
LARGEST = 4095  # symbol: those beyond are clipped
MOST_NUMBERS = 2**28  # in one file: 1 GiB once they are read
RARE = 1e-4  # a number that is as seldom not zero is never sent
CHOSEN_ROWS = 8192  # train images whose symbols are chosen by their bits, for a second training
ZERO = 0.42  # what is added before |u| is cut to a whole number, where bits are not known yet


@dataclass(frozen=True, eq=False)
class Codec:
    """transform: a Transform; step: of its coordinates, in units of pictures in [0, 1]; context: a
    Context; pulls: float (3,), of |k| = 0, 1, more; rate_weight: squared steps a bit is worth."""

    transform: Transform
    step: float
    context: Context
    pulls: np.ndarray
    rate_weight: float = 0.0

    def choose(self, coordinates):
        """Coordinates (n, B, B, m) -> (symbols int32, means, scales) as `Context.walk` does."""
        wanted = np.clip(coordinates / self.step, -LARGEST, LARGEST)

        def best(place, mean, scale):
            near = wanted[place]
            nearest = np.rint(near)
            if not self.rate_weight:
                return nearest
            chosen, least = nearest, np.inf
            for candidate in (nearest, nearest - np.sign(nearest), np.sign(nearest) * 0):
                error = (near - self._pulled(candidate, mean)) ** 2
                cost = error + self.rate_weight * contexts.laplace_bits(candidate, mean, scale)
                chosen = np.where(cost < least, candidate, chosen)
                least = np.minimum(cost, least)
            return chosen

        return self.context.walk(len(wanted), best)

    def coordinates(self, symbols, means):
        """What the decoder makes of symbols and their predicted means: float32 (n, B, B, m)."""
        return np.float32(self.step) * self._pulled(symbols, means).astype(np.float32)

    def _pulled(self, symbols, means):
        pull = self.pulls[np.minimum(np.abs(symbols), 2).astype(int)]
        return symbols + pull * np.clip(means - symbols, -1, 1)

    def dequantise(self, symbols, means):
        """Symbols and their means (n, B, B, m) -> grids float32 (n, s, s, c)."""
        return self.transform.undo(self.coordinates(symbols, means))

    def encode(self, symbols, means, scales):
        """The bytes of what `choose` returned, in the order of the walk."""
        encoder = constriction.stream.queue.RangeEncoder()
        for place in self._places():
            encoder.encode(*_distribution(symbols[place].ravel(), means[place], scales[place]))
        return encoder.get_compressed().astype("<u4").tobytes()

    def decode(self, payload, rows):
        """(symbols, means) of `rows` images that `encode` made bytes of."""
        decoder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(payload, "<u4").astype(np.uint32)
        )

        def read(place, mean, scale):
            _, *distribution = _distribution(None, mean, scale)
            return decoder.decode(*distribution).reshape(mean.shape)

        if not rows:
            return self.context.predict(np.zeros((0, *self.context.shape), np.int32))[:2]
        return self.context.walk(rows, read)[:2]

    def _places(self):
        """Indices of each group of each block, in the order of `Context.walk`."""
        side, _, m = self.context.shape
        bounds = contexts.groups(m)
        for row, column in np.ndindex(side, side):
            for first, last in zip(bounds, bounds[1:], strict=False):
                yield np.s_[:, row, column, first:last]


def _distribution(symbols, mean, scale):
    """Arguments of the range coder: symbols, the family of models, their parameters."""
    family = constriction.stream.model.QuantizedLaplace(-LARGEST, LARGEST)
    return symbols, family, *(np.float64(x).ravel() for x in (mean, scale))


def fit(transform, train, held, step, rate_weight=0.1, steps=1500, seed=0):
    """The Codec for grids like `train` (n, s, s, c), of which `held` choose the entropy model.

    First its symbols are rounded with a dead zone; then, where bits count, chosen by them, and the
    entropy model is trained on. steps: of its training.
    """
    whole = transform.apply(train)
    symbols = _cut(whole / step)
    often = (symbols != 0).mean(axis=(0, 1, 2)) > RARE
    kept = transform.first(max(1, len(often) - int(np.argmax(often[::-1]))) if often.any() else 1)
    count = kept.forward.shape[1]
    whole, symbols = whole[..., :count], symbols[..., :count]
    held = kept.apply(held)
    entropy, _ = contexts.train(symbols, _cut(held / step), steps=steps, seed=seed)
    codec = Codec(kept, step, entropy, np.array([0.0, 0.05, 0.0]), rate_weight)
    few = whole[:CHOSEN_ROWS]
    symbols, means, _ = codec.choose(few)
    codec = replace(codec, pulls=_pulls(few / step, symbols, means))
    if rate_weight:
        chosen = codec.choose(held)[0]
        entropy, _ = contexts.train(
            symbols, chosen, steps=steps // 3, rate=1e-3, begin=entropy, seed=seed
        )
        codec = replace(codec, context=entropy)
    return codec


def _cut(wanted):
    cut = np.sign(wanted) * np.floor(np.abs(wanted) + ZERO)
    return np.clip(cut, -LARGEST, LARGEST).astype(np.int16)


def _pulls(wanted, symbols, means):
    """The pulls with the least squared error: float (3,)."""
    pulls = np.zeros(3)
    toward = np.clip(means - symbols, -1, 1)
    for size in range(3):
        seen = np.minimum(np.abs(symbols), 2) == size
        square = (toward[seen] ** 2).sum(dtype=np.float64)
        if square:
            left = (wanted[seen] - symbols[seen]) * toward[seen]
            pulls[size] = left.sum(dtype=np.float64) / square
    return pulls
