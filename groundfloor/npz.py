"""Reads .npz and .npy files without pickle; what is wrong with one is a UserError in one line."""

import contextlib
from pathlib import Path

import numpy as np

from groundfloor.errors import UserError, first_line


@contextlib.contextmanager
def reading(path, what):
    """Yield {name: array} of all arrays of a .npz file, for a block that makes `what` of them.

    what: such as "a functa". A name that the block misses, and any other error in it, means that
    the file is damaged or of another kind: a UserError that says so.
    """
    with _faults(path, what):
        arrays = _load(path)
        if not isinstance(arrays, dict):
            raise ValueError("it is a .npy file")
        yield arrays


def read_array(path):
    """The array of a .npy file."""
    with _faults(path, "a .npy file"):
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


@contextlib.contextmanager
def _faults(path, what):
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise UserError(f"{path} is larger than the memory that is left") from None
    except KeyError as error:
        raise UserError(f"{path} is not {what}: it lacks {error.args[0]}") from None
    except Exception as error:  # of zip, zlib, NumPy or JSON: as many kinds as there is damage
        raise UserError(f"{path} is damaged or not {what} ({first_line(error)})") from None
