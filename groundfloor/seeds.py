"""Named streams of chance from one seed, so that no two uses share their numbers.

torch.manual_seed(seeds.fold(seed, "augmentation", step))
np.random.default_rng(seeds.fold(seed, "order", epoch))
jax.random.fold_in(jax.random.key(seed), seeds.number("noise"))
"""

import zlib

import numpy as np


def fold(seed, *path):
    """A number in [0, 2**63) for the stream that `path`, names and whole numbers, leads to.

    By NumPy's SeedSequence, whose hash makes neighbouring seeds and steps independent.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=[number(step) for step in path])
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


def number(name):
    """A name as a whole number below 2**32, the same in every process; numbers stay."""
    return zlib.crc32(name.encode()) if isinstance(name, str) else int(name)
