"""Reads .npz and .npy files without pickle; what is wrong with one is a UserError in one line."""

import contextlib
from pathlib import Path

import numpy as np

from groundfloor import errors
from groundfloor.errors import UserError


@contextlib.contextmanager
def reading(path, what):
    """Yield {name: array} of all arrays of a .npz file, for a block that makes `what` of them.

    what: such as "a functa". A name that the block misses, and any other error in it, means that
    the file is damaged or of another kind: a UserError that says so.
    """
    with errors.reading(path, what):
        arrays = _load(path)
        if not isinstance(arrays, dict):
            raise ValueError("it is a .npy file")
        yield arrays


def read_array(path):
    """The array of a .npy file."""
    with errors.reading(path, "a .npy file"):
        array = _load(path)
        if isinstance(array, dict):
            raise ValueError("it is a .npz file")
        return array


def _load(path):
    with Path(path).open("rb") as file:
        if not file.read(6).startswith((b"PK", b"\x93NUMPY")):
            raise ValueError("it is no .npz or .npy file")
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        arrays = dict(loaded)
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise UserError(f"{path} holds other files than arrays")
    return arrays
