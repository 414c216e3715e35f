"""Reads .npz and .npy files without pickle; what is wrong with one is a UserError in one line."""

from pathlib import Path

import numpy as np

from groundfloor.data.split import first_line
from groundfloor.errors import UserError


def read(path, *names):
    """{name: array} of all arrays of a .npz file, among which `names` must be."""
    arrays = _load(Path(path))
    if not isinstance(arrays, dict):
        raise UserError(f"{path} is no .npz file")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or '-'}")
    return arrays


def read_array(path):
    """The array of a .npy file."""
    array = _load(Path(path))
    if isinstance(array, dict):
        raise UserError(f"{path} is no .npy file")
    return array


def _load(path):
    try:
        with path.open("rb") as file:
            if not file.read(6).startswith((b"PK", b"\x93NUMPY")):
                raise UserError(f"{path} is no .npz or .npy file")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            arrays = dict(loaded)
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise UserError(f"{path} holds other files than arrays")
        return arrays
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise UserError(f"{path} is larger than the memory that is left") from None
    except UserError:
        raise
    except Exception as error:  # of zip, zlib or NumPy: as many kinds as there is damage
        raise UserError(f"{path} is damaged ({first_line(error)})") from None
