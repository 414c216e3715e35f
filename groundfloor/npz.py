"""Reads .npz and .npy files without pickle, and writes .npz; a UserError says what is wrong."""

import contextlib
import io
import math
import os
import struct
import zipfile
from pathlib import Path

import numpy as np

from groundfloor import errors
from groundfloor.errors import UserError
from groundfloor.runs import atomic

LOCAL_HEADER = 30  # bytes before a member's name in a zip file; the last four are two lengths


@contextlib.contextmanager
def reading(path, what, mapped=False):
    """Yield {name: array} of all arrays of a .npz file, for a block that makes `what` of them.

    what: such as "a functa". A name that the block misses, and any other error in it, means that
    the file is damaged or of another kind: a UserError that says so. mapped: leave arrays that are
    not compressed on disk, as read-only np.memmap; zip's checksums are then not looked at.
    """
    with errors.reading(path, what):
        arrays = _mapped(path) if mapped else _load(path)
        if not isinstance(arrays, dict):
            raise ValueError("it is a .npy file")
        yield arrays


def write(path, arrays, compressed=False):
    """Write {name: array, or what makes one} as .npz, whole or not at all, whatever its name ends
    in."""
    save = np.savez_compressed if compressed else np.savez
    with atomic(path) as temporary, temporary.open("wb") as file:
        save(file, **arrays)


def read_array(path):
    """The array of a .npy file."""
    with errors.reading(path, "a .npy file"):
        array = _load(path)
        if isinstance(array, dict):
            raise ValueError("it is a .npz file")
        return array


def _mapped(path):
    """{name: array} of a .npz file, those that are stored as they are as np.memmap."""
    arrays = {}
    with zipfile.ZipFile(path) as archive, Path(path).open("rb") as file:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            file.seek(member.header_offset + LOCAL_HEADER - 4)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            file.seek(name_length + extra_length, os.SEEK_CUR)
            if member.compress_type != zipfile.ZIP_STORED:
                arrays[name] = np.load(io.BytesIO(archive.read(member)), allow_pickle=False)
                continue
            start = file.tell()
            read_header = getattr(
                np.lib.format, f"read_array_header_{np.lib.format.read_magic(file)[0]}_0"
            )
            shape, fortran, dtype = read_header(file)
            size = file.tell() - start + math.prod(shape) * dtype.itemsize
            if dtype.hasobject or size != member.file_size:
                raise ValueError(f"{name} is no array of numbers, or not whole")
            if 0 in shape:  # which cannot be mapped
                arrays[name] = np.empty(shape, dtype)
            else:
                order = "F" if fortran else "C"
                arrays[name] = np.memmap(path, dtype, "r", file.tell(), shape, order)
    return arrays


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
