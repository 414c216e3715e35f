"""Work on many images in batches of few sizes, so that little is compiled."""

import jax
import numpy as np


def in_batches(function, arrays, batch_size):
    """function(*batches) -> tuple of arrays, over batches of `arrays` (n, ...): results joined.

    Every batch is padded with zeros to one size, at most batch_size and the next power of two that
    holds all n, rounded up to a multiple of the local devices; what belongs to the padding is cut
    off again. Without rows the function still sees one batch. Returns a tuple of NumPy arrays.
    """
    count, devices = len(arrays[0]), len(jax.local_devices())
    size = min(batch_size, 1 << max(count - 1, 0).bit_length())
    size = -(-size // devices) * devices
    results = []
    for start in range(0, max(count, 1), size):
        batch = [array[start : start + size] for array in arrays]
        padded = [np.pad(x, [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1)) for x in batch]
        results.append([np.asarray(part)[: len(batch[0])] for part in function(*padded)])
    return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))
