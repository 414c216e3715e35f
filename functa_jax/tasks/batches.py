"""Rows padded to few sizes, so that one compiled program serves data of any length."""

import numpy as np


def padded(rows, size):
    """Rows (n, ...) and zeros behind them, up to a multiple of `size`, and at least that."""
    more = max(-(-len(rows) // size), 1) * size - len(rows)
    return np.pad(rows, [(0, more)] + [(0, 0)] * (rows.ndim - 1))


def in_batches(function, arrays, size):
    """function(*batches) of arrays with as many rows each, joined, as a NumPy array.

    All batches are padded to `size`; no rows make a batch too, for the shape of the result.
    """
    count, results = len(arrays[0]), []
    for start in range(0, max(count, 1), size):
        batch = [padded(array[start : start + size], size) for array in arrays]
        results.append(np.asarray(function(*batch))[: count - start])
    return np.concatenate(results)
