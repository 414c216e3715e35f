"""Numbers in few bits: transform, quantiser, entropy model and range coder, and their file.

Coordinates u of `transform` are divided by one step and rounded to whole numbers k, the symbols;
`context` says mean and scale of each, with which the range coder of `constriction` (Martin 1979)
spends -log2 p(k) bits on it. Which whole number is best depends on its bits: of those at u and
nearer zero the encoder takes that with the least error + rate_weight * bits ("rate-distortion
optimised quantisation"; Sullivan and Wiegand 1998). The decoder puts k + pull * (mean - k), with a
pull for each |k| of 0, 1 and more: where numbers that were rounded to k lie in the mean.

A file, little-endian: header (magic, version, hash of the functa, images, blocks per side, cells
per side of a block, numbers of a cell, symbols of a block, hidden units, bytes of tables and of
payload), the Codec's tables (zlib), the payload, CRC-32 of all before. Version 2 has 16 bits for
the numbers of a cell and the symbols of a block; version 3, for more of them, has 32.
"""

import math
import struct
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import constriction
import numpy as np

from functa_jax.tasks.compression import context as contexts
from functa_jax.tasks.compression.context import Context
from functa_jax.tasks.compression.transform import Transform
from groundfloor.errors import UserError
from groundfloor.runs import atomic

MAGIC = b"FNCT"
HEADERS = {2: struct.Struct("<4sB8sIHHHHHII"), 3: struct.Struct("<4sB8sIHHIIHII")}  # by version
CHECK = struct.Struct("<I")
LARGEST = 4095  # symbol; `finest` says which step keeps numbers within
# The coder leaves 1 in 2^24 to each symbol, so that even a sure one takes a little.
LEAST_BITS = 2 * LARGEST / 2**24 / math.log(2)
MOST_NUMBERS = 2**28  # in one file: 1 GiB once they are read
PIECE = 4096  # images that are coded side by side
FAMILY = constriction.stream.model.QuantizedLaplace(-LARGEST, LARGEST)
RARE = 1e-4  # numbers that are as seldom not zero, and all after them, are never sent
MULTIPLE = 64  # that are sent are a multiple of this, so that few sizes are compiled
CHOSEN_ROWS = 4096  # train images whose symbols are chosen by their bits, for a second training
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
        """Coordinates (n, B, B, m) -> (symbols int32, means, scales) as `Context.walk` does.

        What lies beyond LARGEST steps is clipped.
        """
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
        for start in range(0, len(symbols), PIECE):
            piece = [array[start : start + PIECE] for array in (symbols, means, scales)]
            for place in self._places():
                k, *laplace = (array[place].ravel() for array in piece)
                encoder.encode(k, FAMILY, *map(np.float64, laplace))
        return encoder.get_compressed().astype("<u4").tobytes()

    def decode(self, payload, rows):
        """(symbols, means) of `rows` images that `encode` made bytes of."""
        decoder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(payload, "<u4").astype(np.uint32)
        )

        def read(place, mean, scale):
            laplace = np.float64(mean.ravel()), np.float64(scale.ravel())
            return decoder.decode(FAMILY, *laplace).reshape(mean.shape)

        sizes = [min(PIECE, rows - start) for start in range(0, rows, PIECE)]
        pieces = [self.context.walk(size, read)[:2] for size in sizes]
        empty = [np.zeros((0, *self.context.shape), kind) for kind in (np.int32, np.float32)]
        symbols, means = (np.concatenate(parts) for parts in zip(empty, *pieces, strict=True))
        return symbols, means

    def _places(self):
        """Indices of each group of each block, in the order of `Context.walk`."""
        side, _, m = self.context.shape
        bounds = contexts.groups(m)
        for row, column in np.ndindex(side, side):
            for first, last in pairwise(bounds):
                yield np.s_[:, row, column, first:last]


def finest(coordinates):
    """The smallest step with which no coordinate is clipped."""
    return float(np.abs(coordinates).max(initial=0)) / LARGEST


def say_clipped(codec, coordinates, name):
    """One line if `codec.choose` clips some of the coordinates, which `name` has."""
    step, least = 255 * codec.step, 255 * finest(coordinates)
    if step < least:
        why = f"numbers beyond {LARGEST:,} steps are clipped; the farthest needs a step of"
        print(f"{name}, step {step:g}: {why} {least:.3g}", flush=True)


def fit(transform, train, held, step, rate_weight=0.12, steps=600, seed=0):
    """The Codec for grids like `train` (n, s, s, c), of which `held` choose the entropy model.

    First its symbols are rounded with a dead zone; then, where bits count, chosen by them, and the
    entropy model is trained on. steps: of its training; none: it knows each symbol's scale alone.
    """
    whole = transform.apply(train)
    symbols = _cut(whole / step)
    often = (symbols != 0).mean(axis=(0, 1, 2)) > RARE
    count = min(len(often), MULTIPLE * (1 + np.max(np.flatnonzero(often), initial=0) // MULTIPLE))
    kept = transform.first(count)
    whole, symbols = whole[..., :count], symbols[..., :count]
    held = kept.apply(held)
    entropy, _ = contexts.train(symbols, _cut(held / step), steps=steps, seed=seed)
    codec = Codec(kept, step, entropy, np.array([0.0, 0.05, 0.0]), rate_weight)
    few = whole[:CHOSEN_ROWS]
    symbols, means, _ = codec.choose(few)
    codec = replace(codec, pulls=_pulls(few / step, symbols, means))
    if rate_weight:
        entropy, _ = contexts.train(
            symbols,
            codec.choose(held)[0],
            steps=steps // 3,
            rate=1e-3,
            begin=entropy if steps else None,
            seed=seed,
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


def without_basis(codec):
    """The Codec with a transform of zeros, which take no room in a file."""
    transform = codec.transform
    zeros = (0 * transform.mean, None, 0 * transform.inverse, transform.side)
    return replace(codec, transform=Transform(*zeros))


# ---- the file ----


@dataclass(frozen=True)
class Sizes:
    """Bytes of a file: once for any number of images (header, tables, check), and for those."""

    fixed: int
    payload: int


def write(path, name, codec, symbols, payload):
    """Write `payload`, which `codec.encode` made of symbols (n, B, B, m), in a file, whole or not
    at all; returns its Sizes.

    name: 16 hexadecimal digits that say whose latents these are (Functa.hash). UserError if there
    are more than MOST_NUMBERS, which `read` would refuse.
    """
    numbers = codec.transform.mean.size
    if len(symbols) * numbers > MOST_NUMBERS:
        most = MOST_NUMBERS // numbers
        raise UserError(f"{len(symbols):,} images are too many for one file: at most {most:,}")
    data, sizes = packed(name, codec, len(symbols), payload)
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return sizes


def packed(name, codec, rows, payload):
    """(the bytes of such a file, their Sizes)."""
    tables = zlib.compress(_tables(codec), 9)
    side, _, m = codec.context.shape
    cell = codec.transform.mean.shape[-1]
    shape = (side, codec.transform.side, cell, m, codec.context.out.shape[0])
    version = 2 if max(cell, m) < 2**16 else 3
    header = HEADERS[version].pack(
        MAGIC, version, bytes.fromhex(name), rows, *shape, len(tables), len(payload)
    )
    data = header + tables + payload
    fixed = len(header) + len(tables) + CHECK.size
    return data + CHECK.pack(zlib.crc32(data)), Sizes(fixed, len(payload))


def read(path, name, shape=None):
    """The grids float32 (n, s, s, c) of a file that `write` made under the same name.

    shape: what (s, s, c) must be, if that is known. Raises UserError, in one line, if it is
    missing, damaged, of another kind or another name. Counts that ask for more memory than
    MOST_NUMBERS take, or than the payload can fill, are damage: it may come from anywhere.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not data.startswith(MAGIC):
        raise UserError(f"{path} is not a file of functa_jax.tasks.compress")
    body, check = data[: -CHECK.size], data[-CHECK.size :]
    version = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 1])
    header = HEADERS.get(version, HEADERS[2])
    if len(body) < header.size or CHECK.unpack(check) != (zlib.crc32(body),):
        raise UserError(f"{path} is damaged or cut short (its check sum is wrong)")
    if version not in HEADERS:
        raise UserError(f"{path} is of version {version}, not 2 or 3; unpack it with that one")
    *_, owner, rows, side, cells, cell, m, hidden, tables, payload = header.unpack_from(body)
    if owner.hex() != name:
        raise UserError(f"{path} was packed with functa {owner.hex()}, this one is {name}")
    try:
        start = header.size + tables
        if start + payload != len(body):
            raise ValueError("its parts are not as long as it says")
        found = (side * cells, side * cells, cell)
        if shape not in (None, found):
            raise ValueError(f"its grids are {found}, not {shape}")
        if not 0 < m <= cells**2 * cell:
            raise ValueError(f"it claims {m} symbols a block")
        if max(rows, 1) * side**2 * cells**2 * cell > MOST_NUMBERS:
            raise ValueError(f"it claims {rows:,} images of {found} numbers")
        if rows * side**2 * m * LEAST_BITS > 8 * payload + 64:
            raise ValueError(f"it has no room for {rows:,} images")
        codec = _codec(body[header.size : start], side, cells, cell, m, hidden)
        return codec.dequantise(*codec.decode(body[start:], rows))
    # AssertionError: constriction's, where the bytes are none that its coder writes.
    except (ValueError, AssertionError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error})") from None


def _layout(side, cells, cell, m, hidden):
    """(name, type, shape) of each array of the tables, in their order."""
    count, block = len(contexts.groups(m)) - 1, cells**2 * cell
    around = 8 * m if side > 1 else 0
    shapes = {
        "around": (around, hidden),
        "before": (2 * m, hidden),
        "start": (side, side, hidden),
        "units": (count, hidden),
        "out": (hidden, 2 * m),
        "usual": (side, side, 2 * m),
    }
    return [
        ("step", "<f4", (1,)),
        ("pulls", "<f4", (3,)),
        ("mean", "<f4", (side * cells, side * cells, cell)),
        ("inverse", "<f4", (m, block)),
        *((name, contexts.TYPES[name], shape) for name, shape in shapes.items()),
    ]


def _tables(codec):
    side, _, m = codec.context.shape
    cell, hidden = codec.transform.mean.shape[-1], codec.context.out.shape[0]
    arrays = codec.context.arrays | {
        "step": codec.step,
        "pulls": codec.pulls,
        "mean": codec.transform.mean,
        "inverse": codec.transform.inverse,
    }
    layout = _layout(side, codec.transform.side, cell, m, hidden)
    return b"".join(
        np.asarray(arrays[name]).reshape(shape).astype(kind).tobytes()
        for name, kind, shape in layout
    )


def _codec(data, *sizes):
    layout = _layout(*sizes)
    lengths = [math.prod(shape) * np.dtype(kind).itemsize for _, kind, shape in layout]
    unpacked = zlib.decompressobj().decompress(data, sum(lengths) + 1)
    if len(unpacked) != sum(lengths):
        raise ValueError("its tables do not fit its numbers")
    arrays, place = {}, 0
    for (name, kind, shape), length in zip(layout, lengths, strict=True):
        array = np.frombuffer(unpacked[place : place + length], kind).reshape(shape)
        if not np.isfinite(array).all():
            raise ValueError(f"its {name} is not finite")
        arrays[name], place = array, place + length
    weights = {name: np.float64(arrays[name]) for name in contexts.TYPES}
    transform = Transform(arrays["mean"], None, arrays["inverse"], sizes[1])
    return Codec(transform, float(arrays["step"][0]), Context(**weights), arrays["pulls"])
