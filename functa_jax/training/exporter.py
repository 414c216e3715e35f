"""Fits a whole data set and writes its functaset: in batches, on disk as it goes, resumable.

Latents go to memory-mapped files beside the result, so memory does not grow with the number of
images, and a killed export goes on from its last batch. The files become one `.npz`, or several
shards, at the end.
"""

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from functa_jax.functaset import COLUMNS, SPLITS, Functaset, Latents, find_shards, shard_path
from functa_jax.modalities import loading
from groundfloor import seeds
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.runs import Progress, Stopping, locked, read_dict, read_json, write_json

BATCH = 2048
NOT_MIRRORED = {"digits", "mnist", "kmnist", "svhn_cropped"}  # a mirrored digit is no digit


@dataclass(frozen=True)
class Augmentation:
    """Copies of the training images: each padded by `pad` zero pixels, cropped at random, and,
    with `flip`, mirrored left-right half of the time. Copy 0 is always the image itself."""

    copies: int = 0
    flip: bool = False
    pad: int = 0
    seed: int = 0

    @classmethod
    def of(cls, data, flip, pad, **more):
        """That of a Dataset; flip None mirrors unless it holds digits, pad None is an eighth."""
        flip = data.name not in NOT_MIRRORED if flip is None else flip
        pad = data.train.images.shape[1] // 8 if pad is None else pad
        return cls(flip=flip, pad=pad, **more)

    def __call__(self, images, copy, start):
        """Copy number `copy` of images (n, h, w, C), the rows from `start` on."""
        if copy == 0:
            return images
        random = np.random.default_rng(seeds.fold(self.seed, "augmentation", copy, start))
        count, height, width, _ = images.shape
        pad = self.pad
        padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        top, left = random.integers(0, 2 * pad + 1, (2, count))
        rows = top[:, None, None] + np.arange(height)[:, None]
        columns = left[:, None, None] + np.arange(width)
        mirrored = random.integers(0, 2, count).astype(bool) & self.flip
        columns = np.where(mirrored[:, None, None], columns[:, :, ::-1], columns)
        return padded[np.arange(count)[:, None, None], rows, columns]


def data_of(functa, run, data_dir=None, *, name=None, download=False, skip_damaged=False):
    """The Dataset or FunctionSet that a run (folder, or functa.npz) was trained on, as many images
    of it, or another one by name or path; images are brought to the functa's resolution if that can
    be."""
    path = (run if run.is_dir() else run.parent) / "config.json"
    settings = read_dict(path, "settings") if path.exists() else {}
    own = settings.get("dataset", functa.metadata.get("data"))
    if not isinstance(name or own, str):
        raise UserError(f"{run} does not say which data set (--dataset) it was trained on")
    images = side = None
    if name in (None, own):
        images, side = settings.get("images"), settings.get("resolution")
        skip_damaged = skip_damaged or settings.get("skip_damaged", False)
    if loading.is_of_functions(name or own):
        return loading.functions(name or own, data_dir, images, side)
    return datasets.load(
        name or own,
        data_dir,
        download=download,
        size=functa.resolution if functa.of_images else None,
        images=images,
        skip_damaged=skip_damaged,
    )


def export(functa, data, path, augmentation=None, dtype="float32", shard_megabytes=1000):
    """Write the functaset of a Dataset or a FunctionSet to `path`; returns the paths written.

    dtype: "float32" or "float16" for the latents; shard_megabytes: latents in one file at most.
    Replaces what an earlier export wrote to `path`, in however many shards. UserError if another
    process is at it.
    """
    path, augmentation = Path(path), augmentation or Augmentation()
    metadata = {
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "resolution": functa.resolution and list(functa.resolution),
        "model": vars(functa.config),
        "checkpoint": functa.hash,
        "inner_steps": functa.inner_steps,
        "penalty": functa.penalty,
        "augmentation": vars(augmentation),
    }
    partial = path.with_suffix(".partial")
    with locked(partial):
        _begin(partial, [metadata, dtype, BATCH, [len(getattr(data, name)) for name in SPLITS]])
        columns = _fit_all(functa, data, partial, augmentation, dtype)
        paths = _write_shards(path, columns, metadata, shard_megabytes * 10**6)
        for old in {path, *find_shards(path)} - set(paths):
            old.unlink(missing_ok=True)
        _discard(partial)
        shutil.rmtree(partial, ignore_errors=True)
    return paths


def _begin(partial, plan):
    """The folder of a partial export, kept if its plan is the same and emptied if it is not."""
    file = partial / "plan.json"
    if not file.exists() or read_json(file) != json.loads(json.dumps(plan)):
        try:
            _discard(partial)
            write_json(file, plan)
        except OSError as error:
            raise UserError(f"cannot write in {partial.parent}: {error.strerror}") from None


def _discard(partial):
    # The plan first: a kill halfway must not leave a plan without the files that belong to it.
    (partial / "plan.json").unlink(missing_ok=True)
    for path in [path for path in partial.glob("*") if path.name != ".lock"]:
        path.unlink()


def _fit_all(functa, data, partial, augmentation, dtype):
    """{"train_latents": array, ...}: fitted into memory maps, from where it was left."""
    columns, tasks = {}, []
    done_file = partial / "done.json"
    done = read_json(done_file) if done_file.exists() else 0
    for name in SPLITS:
        split = getattr(data, name)
        copies = 1 + (augmentation.copies if name == "train" else 0)
        rows = len(split) * copies
        shapes = {
            "latents": ((rows, *functa.config.latent_shape), dtype),
            "psnr": ((rows,), "float32"),
        }
        for column, (shape, kind) in shapes.items():
            file = partial / f"{name}_{column}.npy"
            columns[f"{name}_{column}"] = _memory_map(file, shape, kind, "r+" if done else "w+")
        columns[f"{name}_labels"] = np.tile(split.labels, copies)
        columns[f"{name}_ids"] = np.tile(split.ids, copies)
        tasks += [(name, c, start) for c in range(copies) for start in range(0, len(split), BATCH)]
    sizes = [min(BATCH, len(getattr(data, name)) - start) for name, _, start in tasks]
    if done:
        Stopping.kept = f"batch {done:,} in {partial}"
    noun = "image" if functa.of_images else "function"
    with Progress(sum(sizes), noun, start=sum(sizes[:done])) as progress:
        for number, (name, copy, start) in enumerate(tasks[done:], done):
            split = getattr(data, name)
            part = split.take(slice(start, start + BATCH))
            if copy:
                part = replace(part, images=augmentation(part.images, copy, start))
            latents, psnr = functa.encode_of(part)
            wrong = ~np.isfinite(latents.reshape(len(latents), -1)).all(axis=1)
            if wrong.any():
                raise UserError(
                    f"the latents of {wrong.sum():,} of {len(wrong):,} {noun}s of {name} are not "
                    f"finite after {functa.inner_steps} steps: the inner loop diverges on them"
                )
            if np.abs(latents).max(initial=0) > np.finfo(dtype).max:
                raise UserError(f"latents of {name} are too large for {dtype}; use float32")
            row = copy * len(split) + start
            for column, values in (("latents", latents), ("psnr", psnr)):
                array = columns[f"{name}_{column}"]
                array[row : row + len(values)] = values
                if isinstance(array, np.memmap):
                    array.flush()
            write_json(done_file, number + 1)
            Stopping.kept = f"batch {number + 1:,} in {partial}"
            progress.advance(len(psnr), psnr=f"{psnr.mean():.2f} dB")
    return columns


def _memory_map(path, shape, dtype, mode):
    if 0 in shape:  # which cannot be mapped
        return np.zeros(shape, dtype)
    return np.lib.format.open_memmap(path, mode, dtype, shape)


def _write_shards(path, columns, metadata, shard_bytes):
    latents = columns["train_latents"]
    total = sum(columns[f"{name}_latents"].nbytes for name in SPLITS)
    count = max(1, math.ceil(total / shard_bytes))
    mean, std = _statistics(latents)
    paths = []
    for shard in range(count):
        splits = {}
        for name in SPLITS:
            rows = len(columns[f"{name}_latents"])
            part = slice(rows * shard // count, rows * (shard + 1) // count)
            splits[name] = Latents(*(columns[f"{name}_{column}"][part] for column in COLUMNS))
        paths.append(shard_path(path, shard, count))
        Functaset(**splits, mean=mean, std=std, metadata=metadata).save(paths[-1])
    return paths


def _statistics(latents):
    """Mean and standard deviation of each number of a latent, float32; in pieces, in float64."""
    count = max(len(latents), 1)
    pieces = [slice(start, start + 65536) for start in range(0, len(latents), 65536)]
    mean = sum(latents[p].astype(np.float64).sum(0) for p in pieces) / count
    square = sum(((latents[p].astype(np.float64) - mean) ** 2).sum(0) for p in pieces) / count
    return np.float32(mean), np.float32(np.sqrt(square))
