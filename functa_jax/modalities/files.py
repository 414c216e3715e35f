"""Functions of one's own: a .npz file, a folder of volumes, or of sound.

    functions.npz                        values (n, N, c) or (n, N); coords (N, d), the same points
                                         for all, or (n, N, d); perhaps labels (n,) and mask (n, N)
    scans/cat/a.npy scans/dog/b.nii.gz   volumes (d1, d2, d3), or with channels last, of one shape
    words/yes/a.wav words/no/b.wav       sound, cut into windows; channels are averaged

Functions of different numbers of points are padded to the longest; mask, bool, is False at the
padding, whatever is there. A .npz file with splits has train_values, val_values, test_values and so
on; coords without prefix are those of all. Folders are as those of images: with class folders or
without, split by hand or not. NIfTI needs the package nibabel. Volumes' coordinates are those of
[0, 1]^3.

Values are uint8, or numbers that become floats about [0, 1]: others than those in [-0.5, 1.5] are
scaled by the least and the greatest value of train, which is said. Sound is 0.5 in silence.
"""

import contextlib
import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from functa_jax.images.signals import HIGHEST, LOWEST
from functa_jax.modalities import sound
from groundfloor import errors, npz
from groundfloor.data import datasets, folder
from groundfloor.data.arrays import MOST_CLASSES
from groundfloor.data.functions import Functions, FunctionSet, fingerprint, lattice_points
from groundfloor.data.split import SPLIT_SEED, drawn
from groundfloor.errors import UserError
from groundfloor.runs import counted

PARTS = ("train", "val", "test")
VOLUMES = (".npy", ".nii", ".nii.gz")
SOUNDS = (".wav",)
WINDOW = 2048  # samples


def load(path, images=None, val_fraction=0.1):
    """The FunctionSet in a .npz file or a folder; modality "functions", of sound "sound".

    images: at most this many of each split. Splits that are not there are drawn by content, as
    those of one's own images: a tenth for test, `val_fraction` of the others for val; of less than
    ten functions all are train. Raises UserError, in one line, for what is missing, damaged,
    mismatched or not finite.
    """
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise UserError(f"data set {path}: no file or folder of that name")
    try:
        if path.is_dir():
            modality, parts, lattice = _folder(path)
        elif path.suffix.lower() == ".npz":
            modality, parts, lattice = _arrays(path)
        else:
            raise UserError(f"{path} is no folder and no .npz file")
    except OSError as error:
        raise errors.unreadable(error.filename or path, error) from None
    splits = {part: split for part, (split, _) in parts.items()}
    keys = parts["train"][1]
    if splits.keys() != {"train"} or len(set(keys)) >= datasets.SMALLEST:
        if "test" not in splits:
            splits["train"], splits["test"], keys = _held_out(
                splits["train"], keys, datasets.TEST_SHARE, "test"
            )
        if "val" not in splits and val_fraction:
            splits["train"], splits["val"], _ = _held_out(
                splits["train"], keys, val_fraction, "val"
            )
    for part in PARTS:
        splits.setdefault(part, splits["train"].take(slice(0)))
    labels = np.concatenate([splits[part].labels for part in PARTS])
    shape = splits["train"].values.shape
    print(
        f"{path}: {', '.join(f'{len(splits[part]):,} in {part}' for part in PARTS)}, at "
        f"{counted(shape[1], 'point')} each, {counted(shape[2], 'channel')}",
        file=sys.stderr,
    )
    digest = fingerprint(*(splits[part] for part in PARTS))
    kept = {part: splits[part].take(slice(images)) for part in PARTS}
    return FunctionSet(
        str(path),
        modality,
        kept["train"],
        kept["val"],
        kept["test"],
        int(labels.max(initial=-1)) + 1,
        digest,
        lattice,
    )


def _held_out(split, keys, share, use):
    """(the split without those drawn for `use`, these, the keys of the first)."""
    held = drawn(keys, share, use)
    left = [key for key, out in zip(keys, held, strict=True) if not out]
    return split.take(~held), split.take(held), left


# ---- one .npz file ----


def _arrays(path):
    """("functions", {part: (Functions, keys)}, lattice or None) of a file."""
    with npz.reading(path, "a file of functions") as arrays:
        if "values" in arrays and "train_values" in arrays:
            raise UserError(f"{path} holds values and train_values; give one of them")
        prefixes = {part: f"{part}_" for part in PARTS if f"{part}_values" in arrays}
        if "values" in arrays:
            prefixes = {"train": ""}
        if "train" not in prefixes:
            raise UserError(
                f"{path} holds {', '.join(arrays) or 'nothing'}; values and coords are needed"
            )
        found = {part: _checked(path, arrays, prefix) for part, prefix in prefixes.items()}
        for name in ("labels", "mask"):
            have = [part for part, columns in found.items() if columns[name] is not None]
            if have and len(have) < len(found):
                raise UserError(f"{path} has {name} of {', '.join(have)} alone; give all or none")
        scale = _scale(path, found["train"]["values"], found["train"]["mask"])
        parts, first = {}, 0
        for part, columns in found.items():
            parts[part] = _functions(columns, scale, 0 if part == "test" else first)
            first += len(columns["values"])
    shapes = {(s.values.shape[1:], s.coords.shape[-1], s.shared) for s, _ in parts.values()}
    if len(shapes) > 1:
        raise UserError(f"{path}: its splits differ in points, dimensions or channels")
    train = parts["train"][0]
    return "functions", parts, _lattice(train.coords) if train.shared else None


def _checked(path, arrays, prefix):
    """{values (n, N, c), coords, labels, mask} of one split, the last two perhaps None."""
    name = f"{path}: {prefix}values"
    values = arrays[f"{prefix}values"]
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape:
        raise UserError(f"{name} has the shape {values.shape}; (n, points, channels) is needed")
    n, points, _ = values.shape
    coords = arrays[f"{prefix}coords"] if f"{prefix}coords" in arrays else arrays["coords"]
    if coords.ndim not in (2, 3) or coords.shape[:-1] not in ((points,), (n, points)):
        raise UserError(
            f"{path}: {prefix}coords has the shape {coords.shape}; ({points}, d) or "
            f"({n}, {points}, d) is needed beside values {values.shape}"
        )
    if not 1 <= coords.shape[-1] <= 6:
        raise UserError(f"{path}: {prefix}coords has {coords.shape[-1]} dimensions; 1 to 6 can be")
    mask = arrays.get(f"{prefix}mask")
    if mask is not None:
        if mask.shape != (n, points) or mask.dtype != bool:
            raise UserError(
                f"{path}: {prefix}mask is {mask.dtype} {mask.shape}; bool ({n}, {points}) is needed"
            )
        if not mask.any(1).all():
            raise UserError(f"{path}: {prefix}mask leaves function {mask.any(1).argmin()} no point")
    for column, array in (("values", values), ("coords", coords)):
        if array.dtype != bool and not np.issubdtype(array.dtype, np.number):
            raise UserError(f"{path}: {prefix}{column} is {array.dtype}; numbers are needed")
        if np.iscomplexobj(array):
            raise UserError(f"{path}: {prefix}{column} is complex; give parts as channels")
    values = values if mask is None else np.where(mask[..., None], values, values.dtype.type(0))
    if mask is not None and coords.ndim == 3:
        coords = np.where(mask[..., None], coords, coords.dtype.type(0))
    for column, array in (("values", values), ("coords", coords)):
        if not np.isfinite(array).all():
            raise UserError(
                f"{path}: {prefix}{column} is not finite everywhere; a mask can leave points out"
            )
    labels = arrays.get(f"{prefix}labels")
    if labels is not None:
        labels = _classes(f"{path}: {prefix}labels", labels, n)
    return {"values": values, "coords": coords, "labels": labels, "mask": mask}


def _classes(what, labels, count):
    """int64 (count,)."""
    if labels.shape not in ((count,), (count, 1)):
        raise UserError(f"{what} has the shape {labels.shape}; there are {count:,} functions")
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise UserError(f"{what} must be whole numbers of classes, 0, 1, ...")
    return labels.reshape(count).astype(np.int64)


def _functions(columns, scale, first):
    """(Functions with ids from `first` on, digests of their contents)."""
    values = _scaled(columns["values"], scale)
    with np.errstate(over="ignore"):  # which is said
        coords = columns["coords"].astype(np.float32)
    if not np.isfinite(coords).all():
        raise UserError("coords are beyond what 32-bit floats can hold")
    n, labels, mask = len(values), columns["labels"], columns["mask"]
    own = [values, *([coords] if coords.ndim == 3 else []), *([] if mask is None else [mask])]
    keys = [_digest([array[row] for array in own]) for row in range(n)]
    labels = np.full(n, -1, np.int64) if labels is None else labels
    return Functions(values, coords, labels, first + np.arange(n, dtype=np.int64), mask), keys


def _digest(arrays):
    return hashlib.sha256(b"".join(map(np.ndarray.tobytes, arrays))).digest()


def _scale(what, values, mask=None):
    """(offset, factor) that bring the values of train to [0, 1]; None where they stay."""
    if values.dtype in (np.uint8, bool):
        return None
    counted_values = values if mask is None else values[mask]
    low, high = float(counted_values.min()), float(counted_values.max())
    if np.issubdtype(values.dtype, np.floating) and LOWEST <= low <= high <= HIGHEST:
        return None
    if not low < high or not np.isfinite(high - low):
        raise UserError(f"{what}: values go from {low:g} to {high:g}: nothing to learn")
    print(f"{what}: values from {low:g} to {high:g} become 0 to 1", file=sys.stderr)
    return low, 1 / (high - low)


def _scaled(values, scale):
    """uint8, or float32."""
    if values.dtype == bool:
        return 255 * values.astype(np.uint8)
    if values.dtype == np.uint8 and scale is None:
        return values
    if scale is None:
        return values.astype(np.float32)
    return ((values.astype(np.float64) - scale[0]) * scale[1]).astype(np.float32)


def _lattice(coords):
    """Sides of the regular lattice whose points coords (N, d) are, in C order; None if of none."""
    axes = [np.unique(column) for column in coords.T]
    sides = tuple(map(len, axes))
    if np.prod(sides, dtype=float) != len(coords):
        return None
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(coords.shape)
    return sides if np.array_equal(points, coords) else None


# ---- folders ----


def _folder(path):
    """(modality, {part: (Functions, keys)}, lattice) of a folder of volumes or of sound."""
    paths = list(folder.files(path))
    volumes = [one for one in paths if one.name.lower().endswith(VOLUMES)]
    sounds = [one for one in paths if one.suffix.lower() in SOUNDS]
    if volumes and sounds:
        raise UserError(f"{path} holds volumes and sound: {volumes[0].name}, {sounds[0].name}")
    if not volumes and not sounds:
        raise UserError(f"{path} holds no {', '.join((*VOLUMES, *SOUNDS))} files")
    kept = volumes or sounds
    parts, labels, _ = folder.layout(path, kept)
    keys = [hashlib.sha256(one.read_bytes()).digest() for one in kept]
    read = _volumes if volumes else _sounds
    modality, values, coords, mask, source, lattice = read(path, kept, np.array(parts) == "train")
    parts, labels = np.array(parts)[source], np.array(labels, np.int64)[source]
    found = {}
    for part in dict.fromkeys(PARTS):
        rows = np.flatnonzero(parts == part)
        if not len(rows):
            continue
        order = np.random.default_rng(SPLIT_SEED).permutation(rows)  # the first: of all classes
        ids = order - (rows[0] if part == "test" else 0)
        functions = Functions(
            values[order], coords, labels[order], ids, None if mask is None else mask[order]
        )
        found[part] = functions, [keys[source[row]] for row in order]
    return modality, found, lattice


def _volumes(path, paths, train):
    """Of all files: modality, values (n, N, c), coords, no mask, the file of each, lattice."""
    volumes = []
    for one in paths:
        volume = _volume(one)
        if volume.ndim not in (3, 4) or 0 in volume.shape or volume.dtype == object:
            raise UserError(f"{one} has the shape {volume.shape}; a volume has three sides")
        if volumes and volume.shape != volumes[0].shape:
            raise UserError(f"{one} is {volume.shape}, {paths[0].name} is {volumes[0].shape}")
        if not (volume.dtype == bool or np.issubdtype(volume.dtype, np.number)):
            raise UserError(f"{one} is {volume.dtype}; numbers are needed")
        if np.iscomplexobj(volume) or not np.isfinite(volume).all():
            raise UserError(f"{one} holds values that are no finite numbers")
        volumes.append(volume)
    kinds = {volume.dtype for volume in volumes}
    values = np.stack(volumes) if len(kinds) == 1 else np.stack(volumes).astype(np.float64)
    lattice = values.shape[1:4]
    values = values.reshape(len(values), int(np.prod(lattice)), -1)
    values = _scaled(values, _scale(path, values[train]))
    source = np.arange(len(values))
    return "functions", values, lattice_points(*lattice), None, source, lattice


def _volume(path):
    """The array of one file."""
    if path.suffix.lower() == ".npy":
        return npz.read_array(path)
    try:
        import nibabel
    except ImportError:
        raise UserError(f"{path}: NIfTI files need nibabel: pip install nibabel") from None
    with errors.reading(path, "a NIfTI volume"), _muted(nibabel):
        return np.asarray(nibabel.load(path).dataobj)


@contextlib.contextmanager
def _muted(nibabel):
    """nibabel logs what is wrong with a header before it raises."""
    level = nibabel.imageglobals.logger.level
    nibabel.imageglobals.logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        nibabel.imageglobals.logger.setLevel(level)


def _sounds(path, paths, train):
    """Of all files' windows: modality, values (n, WINDOW, 1), coords, mask (None if all is full),
    the file of each, lattice."""
    values, masks, source, rates, silent = [], [], [], set(), 0
    for number, one in enumerate(paths):
        rate, wave = _wave(one)
        rates.add(rate)
        if len(rates) > 1:
            raise UserError(f"{one} has {rate:,} samples a second, others {min(rates - {rate}):,}")
        for start in range(0, len(wave), WINDOW):
            piece = wave[start : start + WINDOW]
            if piece.min() == piece.max():
                silent += 1
                continue
            values.append(np.pad(piece, (0, WINDOW - len(piece))))
            masks.append(np.arange(WINDOW) < len(piece))
            source.append(number)
    if not values:
        raise UserError(f"{path}: all of its sound is silence")
    if silent:
        print(f"{path}: {counted(silent, 'silent window')} left out", file=sys.stderr)
    mask = np.stack(masks)
    values = (0.5 + 0.5 * np.stack(values)[..., None]).astype(np.float32)
    mask = None if mask.all() else mask
    return "sound", values, sound.times(WINDOW), mask, np.array(source), (WINDOW,)


def _wave(path):
    """(samples a second, wave float64 (N,) in [-1, 1]) of a .wav file."""
    with errors.reading(path, "a .wav file"), warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # further chunks, of any kind
        warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
        rate, wave = wavfile.read(path)
        if wave.dtype == np.uint8:
            wave = (wave - 128.0) / 128
        elif np.issubdtype(wave.dtype, np.integer):
            wave = wave / -float(np.iinfo(wave.dtype).min)
        if not wave.size:
            raise UserError(f"{path} holds no sound")
        if not np.isfinite(wave).all() or np.abs(wave).max() > 2:
            raise UserError(f"{path} goes beyond [-1, 1], which is all that sound can")
        return rate, wave.reshape(len(wave), -1).mean(1, dtype=np.float64)
