"""The functaset: a data set of latents in `.npz` files that NumPy alone reads, without pickle.

Keys: {train,val,test}_latents float32 or float16, (n, L) or (n, s, s, L) for a grid of cells;
_labels int64 (n,), -1 if unknown; _ids int64 (n,), the row in the published split, repeated by
augmented copies; _psnr float32 (n,), dB (of functions at the points fitted to); mean, std of the
train latents, float32, shaped like one; metadata, a JSON string. A large set comes in shards
NAME-00000-of-00004.npz, each a functaset with a part of the rows.
"""

import json
import re
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import numpy as np

from groundfloor import npz
from groundfloor.errors import UserError
from groundfloor.runs import counted

SPLITS = ("train", "val", "test")
COLUMNS = ("latents", "labels", "ids", "psnr")


@dataclass(frozen=True, eq=False)
class Latents:
    """One split: latents (n, L) or (n, s, s, L), labels (n,), ids (n,), psnr (n,) in dB."""

    latents: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    psnr: np.ndarray

    def __len__(self):
        return len(self.latents)

    def __getitem__(self, rows):
        """The (latent, label) of one row, or the `Latents` of several (a slice, a mask, numbers).

        With it a split is a data set of PyTorch: torch.utils.data.DataLoader takes it as it is.
        """
        if isinstance(rows, bool | np.bool_ | None):  # NumPy would add an axis
            raise TypeError(f"{rows} is no row; a number, a slice, a mask or numbers are")
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            return self.latents[rows], int(self.labels[rows])
        return Latents(*(getattr(self, column)[rows] for column in COLUMNS))

    def __repr__(self):
        shape = " x ".join(map(str, self.latents.shape[1:]))
        psnr = f", {np.mean(self.psnr):.2f} dB" if len(self) else ""
        classes = counted(len(np.unique(self.labels[self.labels >= 0])), "class", "classes")
        return f"Latents({len(self):,} of {shape} numbers, {classes}{psnr})"


class Joined:
    """Arrays laid end to end along their first axis; rows are copied where they are taken.

    What NumPy does with it, it does with the whole in memory.
    """

    def __init__(self, parts):
        self.parts, self.starts = parts, np.cumsum([0, *map(len, parts)])
        self.shape, self.dtype = (int(self.starts[-1]), *parts[0].shape[1:]), parts[0].dtype
        self.ndim = len(self.shape)

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows):
        numbers = np.arange(len(self))[rows]
        taken = np.empty((*numbers.shape, *self.shape[1:]), self.dtype)
        places = np.searchsorted(self.starts, numbers, side="right") - 1
        for place in np.unique(places):
            here = places == place
            taken[here] = self.parts[place][numbers[here] - self.starts[place]]
        return taken


@dataclass(frozen=True, eq=False)
class Functaset:
    """Latents of three splits, the train latents' mean and std, and what made them."""

    train: Latents
    val: Latents
    test: Latents
    mean: np.ndarray
    std: np.ndarray
    metadata: dict

    def __repr__(self):
        shape = " x ".join(map(str, self.mean.shape))
        sizes = ", ".join(f"{len(getattr(self, split)):,} {split}" for split in SPLITS)
        return (
            f"Functaset({self.metadata.get('data', 'images')}, {sizes}; latents of {shape} numbers)"
        )

    def save(self, path):
        """Write one `.npz` file, whole or not at all."""
        arrays = {
            f"{split}_{column}": getattr(getattr(self, split), column)
            for split in SPLITS
            for column in COLUMNS
        }
        statistics = {"mean": self.mean, "std": self.std}
        npz.write(path, {**arrays, **statistics, "metadata": json.dumps(self.metadata)})


def shard_path(path, shard, count):
    """`path` itself for one shard, else NAME-00000-of-00004.npz."""
    path = Path(path)
    if count == 1:
        return path
    return path.with_name(f"{path.stem}-{shard:05d}-of-{count:05d}{path.suffix}")


def find_shards(path):
    """Paths of all shards that were written for `path`, in order."""
    digits = "[0-9]" * 5
    return sorted(path.parent.glob(f"{escape(path.stem)}-{digits}-of-{digits}{path.suffix}"))


def load_functaset(path, lazy=False):
    """Read a functaset: a `.npz` file, or the path that its shards were written for.

    lazy: leave latents on disk until rows of them are taken, for sets that are larger than memory
    (a `Joined` of np.memmap); then damage inside them is not found.
    Raises UserError, in one line, for a missing, damaged or foreign file, and a missing shard.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "functaset.npz"
    match = re.fullmatch(r"(.+)-\d{5}-of-(\d{5})", path.stem)
    if match:
        path = path.with_name(match[1] + path.suffix)
    paths = [path]
    if not path.exists():
        shards = find_shards(path)
        if not shards:
            raise UserError(f"no functaset at {path}")
        count = int(shards[0].stem[-5:])
        paths = [shard_path(path, shard, count) for shard in range(count)]
    shards = [_read(shard, lazy) for shard in paths]
    if len(shards) == 1 and not lazy:
        return shards[0]
    for shard, other in zip(paths, shards, strict=True):
        if other.metadata != shards[0].metadata:
            raise UserError(f"{shard} is of another functaset than {paths[0]}; export it again")

    def joined(split, column):
        parts = [getattr(getattr(shard, split), column) for shard in shards]
        return Joined(parts) if lazy and column == "latents" else np.concatenate(parts)

    splits = {split: Latents(*(joined(split, column) for column in COLUMNS)) for split in SPLITS}
    return Functaset(**splits, mean=shards[0].mean, std=shards[0].std, metadata=shards[0].metadata)


def _read(path, lazy):
    with npz.reading(path, "a functaset", mapped=lazy) as arrays:
        splits = {
            split: Latents(*(arrays[f"{split}_{column}"] for column in COLUMNS)) for split in SPLITS
        }
        metadata = json.loads(str(arrays["metadata"]))
        functaset = Functaset(**splits, mean=arrays["mean"], std=arrays["std"], metadata=metadata)
        _check(functaset)
        return functaset


def _check(functaset):
    """ValueError unless all columns of a split have its rows, and all latents one shape."""
    for name in SPLITS:
        part = getattr(functaset, name)
        rows = {len(getattr(part, column)) for column in COLUMNS}
        if len(rows) > 1 or part.latents.shape[1:] != functaset.mean.shape:
            raise ValueError(f"columns of {name} do not fit each other")
    if functaset.std.shape != functaset.mean.shape or not isinstance(functaset.metadata, dict):
        raise ValueError("mean, std and metadata do not fit each other")
