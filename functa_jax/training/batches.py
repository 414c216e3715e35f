"""Work on many images or functions in batches of few sizes, so that little is compiled."""

from functools import partial

import jax
import numpy as np


def in_batches(function, arrays, batch_size):
    """function(*batches) -> tuple of arrays, over batches of `arrays` (n, ...): results joined.

    Beside the first array there may be trees of arrays, or None.
    Every batch is padded with zeros to one size, at most batch_size and the next power of two that
    holds all n, rounded up to a multiple of the local devices; what belongs to the padding is cut
    off again. Without rows the function still sees one batch. Returns a tuple of NumPy arrays.
    """
    count, devices = len(arrays[0]), len(jax.local_devices())
    size = min(batch_size, 1 << max(count - 1, 0).bit_length())
    size = -(-size // devices) * devices
    results = []
    for start in range(0, max(count, 1), size):
        batch = jax.tree.map(partial(_padded, start, size), list(arrays))
        results.append([np.asarray(part)[: count - start] for part in function(*batch)])
    return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))


def _padded(start, size, array):
    """The `size` rows from `start` on, zeros where there are no more."""
    rows = array[start : start + size]
    return np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))
