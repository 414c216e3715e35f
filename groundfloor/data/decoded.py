"""Decoded pixels of large data sets, kept between runs: one file a set, named by its content.

They lie in $XDG_CACHE_HOME/functa/decoded, or ~/.cache/functa/decoded, and may be deleted at any
time. Without such a place, or on a full or read-only disk, sets are decoded anew each time.
"""

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

import numpy as np

from groundfloor import npz
from groundfloor.data.split import Split
from groundfloor.errors import UserError

DECODER = "2"  # another number when the same files are read otherwise


def place(name, files, made_by=""):
    """Where the pixels of the data set `name` are kept, or None.

    The file's name holds a digest of all `files` (paths), so that swapped files never meet old
    pixels, and of the text `made_by`: what else decides about them.
    """
    base = cache_home()
    if base is None:
        return None
    digest = hashlib.sha256(f"{DECODER}{made_by}".encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return base / "functa" / "decoded" / f"{name}.{digest.hexdigest()[:16]}.npz"


def cache_home():
    """$XDG_CACHE_HOME or ~/.cache, or None for a user without either."""
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if stated.is_absolute():  # others are to be ignored, says the standard
        return stated
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home directory
        return None
    return home / ".cache" if home.is_absolute() else None


def read(path):
    """(splits, num_classes) that `write` left, or None if there is nothing good.

    Zip checksums guard the content.
    """
    with contextlib.suppress(UserError), npz.reading(path, "a decoded data set") as arrays:
        parts = [name.removesuffix("_images") for name in arrays if name.endswith("_images")]
        splits = {part: Split(*(arrays[f"{part}_{c}"] for c in COLUMNS)) for part in parts}
        if "train" in splits and all(_whole(split) for split in splits.values()):
            return splits, int(arrays["num_classes"])
    return None


COLUMNS = ("images", "labels", "ids")


def _whole(split):
    columns = (split.images.dtype, np.uint8), (split.labels.dtype, np.int64)
    rows = {len(split.images), len(split.labels), len(split.ids)}
    return all(have == want for have, want in columns) and split.images.ndim == 4 and len(rows) == 1


def writable(path):
    """Whether something can be kept there; makes the folder."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.access(path.parent, os.W_OK)
    return False


def write(path, splits, num_classes):
    """Keep {"train": Split, ...} in place of what was kept of this set; a full disk costs time."""
    columns = {
        f"{part}_{column}": getattr(split, column)
        for part, split in splits.items()
        for column in COLUMNS
    }
    with contextlib.suppress(OSError, UserError):
        _tidy(path)
        npz.write(path, {**columns, "num_classes": num_classes})


def _tidy(path):
    """Delete other contents of the same set, files of older versions, and what kills left."""
    name = re.escape(path.name.rsplit(".", 2)[0])
    replaced = re.compile(rf"{name}\.[0-9a-f]{{16}}\.npz|\w+-[0-9a-f]{{16}}\.npz")
    unfinished = re.compile(r"\..+\.[0-9a-f]{16}\.\d+\.npz|\w+-[0-9a-f]{16}\.npz\.\d+\.tmp")
    for other in path.parent.iterdir():
        old = unfinished.fullmatch(other.name) and time.time() - other.stat().st_mtime > 3600
        if other != path and (old or replaced.fullmatch(other.name)):
            other.unlink()
