"""Computed functions as a FunctionSet: which belong to which split, in which order."""

import numpy as np

from groundfloor.data.functions import Functions, FunctionSet, fingerprint
from groundfloor.data.split import PARTS, SPLIT_SEED

SHARES = (0.7, 0.1, 0.2)  # of train, val and test


def stratified(labels, shares=SHARES):
    """Names of the split of each function, (n,): of every class the same `shares`, to the nearest
    whole number, at random."""
    random = np.random.default_rng(SPLIT_SEED)
    parts = np.empty(len(labels), "<U5")
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        ends = np.rint(np.cumsum(shares) * len(rows)).astype(int)[:-1]
        for part, chosen in zip(PARTS, np.split(rows, ends), strict=True):
            parts[chosen] = part
    return parts


def gathered(name, modality, values, coords, labels, parts, lattice, images=None):
    """The FunctionSet of values (n, N, c) at shared coords (N, d), labels (n,) and parts (n,).

    Rows come in a fixed random order, so that the first ones are of all classes; images: keep this
    many of each split. An id is the number of a function among all n. The fingerprint is of all.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    splits = {}
    for part in PARTS:
        rows = order[parts[order] == part]
        splits[part] = Functions(values[rows], coords, labels[rows].astype(np.int64), rows)
    digest = fingerprint(*splits.values())
    kept = {part: split.take(slice(images)) for part, split in splits.items()}
    return FunctionSet(
        name,
        modality,
        kept["train"],
        kept["val"],
        kept["test"],
        int(labels.max()) + 1,
        digest,
        lattice,
    )
