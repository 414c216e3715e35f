"""Functions of one's own in a folder of volumes or of .wav files (modalities/files.py)."""

import contextlib
import hashlib
import sys
import warnings

import numpy as np
from scipy.io import wavfile

from functa_jax.modalities import sound
from functa_jax.modalities.own_arrays import scale_of, scaled
from groundfloor import errors, npz
from groundfloor.data import folder
from groundfloor.data.functions import Functions, lattice_points
from groundfloor.data.split import PARTS, SPLIT_SEED
from groundfloor.errors import UserError
from groundfloor.runs import counted

VOLUMES = (".npy", ".nii", ".nii.gz")
SOUNDS = (".wav",)
WINDOW = 2048  # samples


def read(path):
    """(modality, {part: (Functions, keys)}, lattice, scale) of a folder of volumes or of sound."""
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
    columns = read(path, kept, np.array(parts) == "train")
    modality, values, coords, mask, source, lattice, scale = columns
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
    return modality, found, lattice, scale


def _volumes(path, paths, train):
    """Of all files: modality, values (n, N, c), coords, no mask, the file of each, lattice, scale
    of the values."""
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
    scale = scale_of(path, values[train])
    values, source = scaled(values, scale), np.arange(len(values))
    return "functions", values, lattice_points(*lattice), None, source, lattice, scale


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
    the file of each, lattice, no scale."""
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
    return "sound", values, sound.times(WINDOW), mask, np.array(source), (WINDOW,), None


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
