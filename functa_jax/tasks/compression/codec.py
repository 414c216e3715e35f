"""Numbers in few bits: a uniform quantiser, a range coder, and the file that holds them.

A number z is rounded to the nearest of mean + k step, k whole and within the range of the train
numbers. How often each k occurs among them, per number, is the static model of the range coder
(Martin 1979; here that of `constriction`), which spends -log2 p(k) bits on k. All this is a Codec.

Numbers do not matter alike: an error e of number j moves a picture by about weight_j * e. At a high
rate the mean squared error is least if each number's error moves the picture as much (Gersho and
Gray 1992, 8.3), so steps are in proportion to 1 / weight. In an orthonormal basis as PCA's, weights
are 1 and all steps the same.

A file, little-endian: header (magic, version, hash of the functa, rows, numbers in a row, bytes of
the tables and of the payload), the Codec's tables (zlib), the payload, CRC-32 of all before.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import constriction
import numpy as np

from groundfloor.errors import UserError
from groundfloor.runs import atomic

MAGIC, VERSION = b"FNCT", 1
HEADER = struct.Struct("<4sB8sIIII")
CHECK = struct.Struct("<I")
COLUMNS = np.dtype([("mean", "<f4"), ("step", "<f4"), ("low", "<i2"), ("levels", "<u2")])
MOST = 2**16 - 1  # of a frequency in the file
MOST_BITS = 14  # low and levels are 16-bit
MOST_NUMBERS = 2**28  # in one file: 1 GiB once they are read


@dataclass(frozen=True, eq=False)
class Codec:
    """Quantiser and frequency tables of d numbers.

    mean, step: float32 (d,); low: int (d,), the smallest k; frequencies: d arrays uint16, one
    entry for each of low, low + 1, ...
    """

    mean: np.ndarray
    step: np.ndarray
    low: np.ndarray
    frequencies: list[np.ndarray]

    @property
    def levels(self):
        """Levels of each number: int (d,)."""
        return np.array([len(table) for table in self.frequencies], int)

    def quantise(self, values):
        """Rows (n, d) -> symbols int32 (n, d) in [0, levels): values out of range are clipped."""
        whole = np.rint((values - self.mean) / self.step) - self.low
        return np.clip(whole, 0, self.levels - 1).astype(np.int32)

    def dequantise(self, symbols):
        """Symbols (n, d) -> float32 (n, d)."""
        return self.mean + self.step * (symbols + self.low).astype(np.float32)

    def encode(self, symbols):
        """Symbols (n, d) -> bytes, number by number, all rows of the first and so on."""
        encoder = constriction.stream.queue.RangeEncoder()
        for column, model in self._models():
            encoder.encode(np.ascontiguousarray(symbols[:, column]), model)
        return encoder.get_compressed().astype("<u4").tobytes()

    def decode(self, payload, rows):
        """The symbols (rows, d) that `encode` made bytes of."""
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        decoder = constriction.stream.queue.RangeDecoder(words)
        symbols = np.zeros((rows, len(self.frequencies)), np.int32)
        for column, model in self._models():
            symbols[:, column] = decoder.decode(model, rows)
        return symbols

    def bits(self, symbols):
        """What the model says that symbols (n, d) take: -sum log2 p, in bits."""
        total = 0.0
        for table, column in zip(self.frequencies, symbols.T, strict=True):
            total -= np.log2(table[column] / table.sum()).sum()
        return float(total)

    def least_bits(self):
        """Bits of the row that takes fewest: the model's most frequent symbols."""
        return float(sum(-np.log2(table.max() / table.sum()) for table in self.frequencies))

    def _models(self):
        """(column, entropy model) of the numbers with more than one level: others take no bits."""
        for column, table in enumerate(self.frequencies):
            if len(table) > 1:
                yield (
                    column,
                    constriction.stream.model.Categorical(table / table.sum(), perfect=False),
                )


def fit(train, bits, weights):
    """The Codec for numbers like `train` (n, d).

    weights: float (d,), how far a picture moves for each unit of a number. The number that moves it
    most has about 2^bits levels over its range; others those that steps leave which move it as far.
    """
    train = np.asarray(train, np.float64)
    low, mean, high = train.min(axis=0), train.mean(axis=0).astype(np.float32), train.max(axis=0)
    ranges = np.maximum(high - low, 1e-30)
    weights = np.asarray(weights, np.float64)
    step = np.full(len(mean), np.inf)
    np.divide((ranges * weights).max() / (2**bits - 1), weights, out=step, where=weights > 0)
    # A number that hardly matters has one level: its mean. No step is finer than float32 is.
    step = np.maximum(np.minimum(step, 4 * ranges), 1e-6 * np.abs(mean)).astype(np.float32)
    first, last = (np.rint((end - mean) / step).astype(int) for end in (low, high))
    empty = [np.zeros(count, np.uint16) for count in last - first + 1]
    codec = Codec(mean, step, first, empty)
    tables = [
        _frequencies(np.bincount(column, minlength=len(table)))
        for column, table in zip(codec.quantise(train).T, empty, strict=True)
    ]
    return Codec(mean, step, first, tables)


def _frequencies(counts):
    """uint16 in proportion to counts + 1/2 (Krichevsky and Trofimov 1981), at least 1."""
    doubled = 2.0 * counts + 1
    return np.maximum(np.rint(doubled * min(1, MOST / doubled.max())), 1).astype(np.uint16)


# ---- the file ----


@dataclass(frozen=True)
class Sizes:
    """Bytes of a file: once for any number of rows (header, tables, check), and for the rows."""

    fixed: int
    payload: int


def write(path, name, codec, values):
    """Write rows (n, d) in a file, whole or not at all; returns its Sizes.

    name: 16 hexadecimal digits that say whose numbers these are (Functa.hash). UserError if there
    are more than MOST_NUMBERS, which `read` would refuse.
    """
    if values.size > MOST_NUMBERS:
        most = MOST_NUMBERS // values.shape[1]
        raise UserError(f"{len(values):,} rows are too many for one file: at most {most:,}")
    data, sizes = packed(name, codec, values)
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return sizes


def packed(name, codec, values):
    """(the bytes of such a file, their Sizes)."""
    tables = zlib.compress(_tables(codec), 9)
    payload = codec.encode(codec.quantise(values))
    header = HEADER.pack(
        MAGIC, VERSION, bytes.fromhex(name), *values.shape, len(tables), len(payload)
    )
    data = header + tables + payload
    fixed = len(header) + len(tables) + CHECK.size
    return data + CHECK.pack(zlib.crc32(data)), Sizes(fixed, len(payload))


def read(path, name, numbers=None):
    """The rows float32 (n, d) of a file that `write` made under the same name.

    numbers: what d must be, if that is known. Raises UserError, in one line, if it is missing,
    damaged, of another kind or another name. Counts that ask for more memory than MOST_NUMBERS
    take, or than the rest of the file can fill, are damage: it may come from anywhere.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not data.startswith(MAGIC):
        raise UserError(f"{path} is not a file of functa_jax.tasks.compress")
    body, check = data[: -CHECK.size], data[-CHECK.size :]
    if len(body) < HEADER.size or CHECK.unpack(check) != (zlib.crc32(body),):
        raise UserError(f"{path} is damaged or cut short (its check sum is wrong)")
    _, version, owner, rows, columns, *sizes = HEADER.unpack_from(body)
    if version != VERSION:
        raise UserError(f"{path} is of version {version}, not {VERSION}; unpack it with that one")
    if owner.hex() != name:
        raise UserError(f"{path} was packed with functa {owner.hex()}, this one is {name}")
    tables = body[HEADER.size : HEADER.size + sizes[0]]
    try:
        if numbers not in (None, columns):
            raise ValueError(f"it has {columns:,} numbers a row, not {numbers:,}")
        if rows * columns > MOST_NUMBERS:
            raise ValueError(f"it claims {rows:,} rows of {columns:,} numbers")
        codec, payload = _codec(tables, columns), body[HEADER.size + sizes[0] :]
        # Twice the room that coder and rounding take.
        if rows * codec.least_bits() > 16 * len(payload) + 64:
            raise ValueError(f"it has no room for {rows:,} rows")
        return codec.dequantise(codec.decode(payload, rows))
    except (ValueError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error})") from None


def _tables(codec):
    columns = np.empty(len(codec.mean), COLUMNS)
    for field in COLUMNS.names:
        columns[field] = getattr(codec, field)
    return columns.tobytes() + np.concatenate(codec.frequencies).astype("<u2").tobytes()


def _codec(tables, numbers):
    most = numbers * (COLUMNS.itemsize + 2 * MOST)  # bytes: levels are 16-bit
    data = zlib.decompressobj().decompress(tables, most + 1)
    columns = np.frombuffer(data, COLUMNS, numbers)
    frequencies = np.frombuffer(data, "<u2", offset=columns.nbytes)
    if columns["levels"].sum() != len(frequencies) or not frequencies.all():
        raise ValueError("its tables do not fit its numbers")
    if not (np.isfinite(columns["mean"]).all() and np.isfinite(columns["step"]).all()):
        raise ValueError("its steps are not finite")
    tables = np.split(frequencies, np.cumsum(columns["levels"].astype(int))[:-1])
    return Codec(columns["mean"], columns["step"], columns["low"].astype(int), tables)
