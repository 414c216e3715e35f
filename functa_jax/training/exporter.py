"""Fits a whole data set and writes its functaset: in batches, on disk as it goes, resumable.

Latents go to memory-mapped files beside the result, so memory does not grow with the number of
images, and a killed export goes on from its last batch. The files become one `.npz`, or several
shards, at the end.
"""

import json
import math
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from functa_jax.functaset import COLUMNS, SPLITS, Functaset, Latents, find_shards, shard_path
from functa_jax.images.signals import HIGHEST, LOWEST
from functa_jax.modalities import loading, own_arrays
from functa_jax.training import devices
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


def data_of(
    functa, run, data_dir=None, *, name=None, download=False, skip_damaged=False, resident="yes"
):
    """The Dataset or FunctionSet that a run (folder, or functa.npz) was trained on, as many images
    of it, or another one by name or path; images are brought to the functa's resolution if that can
    be. resident: of `datasets.load`.

    They have the fingerprint that the run knows them by, also where they are read in another way.
    """
    path = (run if run.is_dir() else run.parent) / "config.json"
    settings = read_dict(path, "settings") if path.exists() else {}
    own = settings.get("dataset", functa.metadata.get("data"))
    if not isinstance(name or own, str):
        raise UserError(f"{run} does not say which data set (--dataset) it was trained on")
    images = side = known = None
    if name in (None, own, functa.metadata.get("data")):
        known = functa.metadata.get("data_fingerprint")
        images, side = settings.get("images"), settings.get("resolution")
        skip_damaged = skip_damaged or settings.get("skip_damaged", False)
    if loading.is_of_functions(name or own):
        data = loading.functions(name or own, data_dir, images, side)
        _say_if_changed(data, known, run)
        return _as_scaled(data, functa.metadata["scale"]) if "scale" in functa.metadata else data

    def loaded(resident):
        return datasets.load(
            name or own,
            data_dir,
            download=download,
            size=functa.resolution if functa.of_images else None,
            images=images,
            skip_damaged=skip_damaged,
            resident=resident,
        )

    data = loading.recognised(loaded(resident), known, loaded)
    _say_if_changed(data, known, run)
    return data


def _say_if_changed(data, known, run):
    if known not in (None, data.fingerprint):
        print(
            f"{data.name} has changed since {run} was trained: what is drawn for test may have "
            "been trained on",
            file=sys.stderr,
        )


def _as_scaled(data, scale):
    """A FunctionSet by the scale of a functa's own data; UserError where it then goes too far."""
    scale = scale and tuple(scale)
    if data.scale == scale:
        return data
    print(f"{data.name}: values are scaled as those of training, instead", file=sys.stderr)
    data = own_arrays.rescaled(data, scale)
    for split in (data.train, data.val, data.test):
        values = split.values if split.mask is None else split.values[split.mask]
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        if not LOWEST <= low <= high <= HIGHEST:
            raise UserError(
                f"values of {data.name}, scaled as those of training, go from {low:g} to {high:g}; "
                f"{LOWEST:g} to {HIGHEST:g} can be"
            )
    return data


def export(
    functa,
    data,
    path,
    augmentation=None,
    dtype="float32",
    shard_megabytes=1000,
    place=(0, 1),
):
    """Write the functaset of a Dataset or a FunctionSet to `path`; returns the paths written.

    dtype: "float32" or "float16" for the latents; shard_megabytes: latents in one file at most.
    Replaces what an earlier export wrote to `path`, in however many shards. UserError if another
    process is at it.
    place: (process, processes) where those of a cluster (devices.join_cluster) share the work: each
    fits a part of every split and writes it as shards of its own, in a folder that all must see.
    Every process returns all paths; killed and started again, as many of them go on.
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
        "fit_points": functa.fit_points,
        "lbfgs_steps": functa.lbfgs_steps,
        "augmentation": vars(augmentation),
    }
    process, processes = place
    alone = processes == 1
    everywhere = _here if alone else devices.everywhere
    gathered = _alone if alone else devices.gathered
    whole = path.with_suffix(".partial")
    partial = whole if alone else whole / f"{process}-of-{processes}"

    def fit():
        _begin(partial, [metadata, dtype, BATCH, [len(getattr(data, name)) for name in SPLITS]])
        return _fit_all(functa, data, partial, augmentation, dtype, place)

    with locked(partial):
        columns = everywhere(fit)
        total = sum(columns[f"{name}_latents"].nbytes for name in SPLITS)
        counts = gathered(np.int64(max(1, math.ceil(total / (shard_megabytes * 10**6)))))
        first, count = int(counts[:process].sum()), int(counts.sum())
        paths = [shard_path(path, shard, count) for shard in range(count)]
        mine = paths[first : first + counts[process]]
        statistics = _statistics(columns["train_latents"], gathered)
        everywhere(lambda: _write_shards(mine, columns, metadata, *statistics))
        if process == 0:
            for old in {path, *find_shards(path)} - set(paths):
                old.unlink(missing_ok=True)
        _discard(partial)
        everywhere(lambda: None)  # a folder is removed when nobody is at work in it
        if process == 0:
            shutil.rmtree(whole, ignore_errors=True)
    return paths


def _here(work):
    return work()


def _alone(array):
    """What `devices.gathered` makes of the array of a process without others."""
    return np.asarray(array)[None]


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
        if path.is_dir():  # of an export by several processes
            with locked(path):
                shutil.rmtree(path)
        else:
            path.unlink()


def _fit_all(functa, data, partial, augmentation, dtype, place):
    """{"train_latents": array, ...}: fitted into memory maps, from where it was left.

    place: (process, processes); of each split the batches of this process alone.
    """
    process, processes = place
    columns, tasks = {}, []
    done_file = partial / "done.json"
    done = read_json(done_file) if done_file.exists() else 0
    for name in SPLITS:
        split = getattr(data, name)
        copies = 1 + (augmentation.copies if name == "train" else 0)
        batches = [(c, start) for c in range(copies) for start in range(0, len(split), BATCH)]
        first, last = (len(batches) * number // processes for number in (process, process + 1))
        rows = [np.zeros(0, np.int64)]  # of the split, in the order of those of the columns
        for copy, start in batches[first:last]:
            tasks.append((name, copy, start, sum(map(len, rows))))
            rows.append(np.arange(start, min(start + BATCH, len(split))))
        rows = np.concatenate(rows)
        shapes = {
            "latents": ((len(rows), *functa.config.latent_shape), dtype),
            "psnr": ((len(rows),), "float32"),
        }
        for column, (shape, kind) in shapes.items():
            file = partial / f"{name}_{column}.npy"
            columns[f"{name}_{column}"] = _memory_map(file, shape, kind, "r+" if done else "w+")
        columns[f"{name}_labels"] = split.labels[rows]
        columns[f"{name}_ids"] = split.ids[rows]
    sizes = [min(BATCH, len(getattr(data, name)) - start) for name, _, start, _ in tasks]
    if done:
        Stopping.kept = f"batch {done:,} in {partial}"
    with Progress(sum(sizes), data.noun, start=sum(sizes[:done])) as progress:
        for number, (name, copy, start, row) in enumerate(tasks[done:], done):
            split = getattr(data, name)
            part = split.take(slice(start, start + BATCH))
            if copy:
                part = replace(part, images=augmentation(part.images, copy, start))
            latents, psnr = functa.encode_of(part)
            wrong = ~np.isfinite(latents.reshape(len(latents), -1)).all(axis=1)
            if wrong.any():
                raise UserError(
                    f"the latents of {wrong.sum():,} of {len(wrong):,} {data.noun}s of {name} are "
                    f"not finite after {functa.inner_steps} steps: the inner loop diverges on them"
                )
            if np.abs(latents).max(initial=0) > np.finfo(dtype).max:
                raise UserError(f"latents of {name} are too large for {dtype}; use float32")
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


def _write_shards(paths, columns, metadata, mean, std):
    for shard, path in enumerate(paths):
        splits = {}
        for name in SPLITS:
            rows = len(columns[f"{name}_latents"])
            part = slice(rows * shard // len(paths), rows * (shard + 1) // len(paths))
            splits[name] = Latents(*(columns[f"{name}_{column}"][part] for column in COLUMNS))
        Functaset(**splits, mean=mean, std=std, metadata=metadata).save(path)


def _statistics(latents, gathered=_alone):
    """Mean and standard deviation of each number of a latent, float32; in pieces, in float64.

    gathered: `devices.gathered`, for latents of which each process has a part.
    """

    def total(of_piece):
        pieces = (latents[start : start + 65536] for start in range(0, len(latents), 65536))
        zero = np.zeros(latents.shape[1:])
        return gathered(sum((of_piece(np.float64(p)).sum(0) for p in pieces), zero)).sum(0)

    count = max(gathered(np.int64(len(latents))).sum(), 1)
    mean = total(lambda piece: piece) / count
    square = total(lambda piece: (piece - mean) ** 2) / count
    return np.float32(mean), np.float32(np.sqrt(square))
