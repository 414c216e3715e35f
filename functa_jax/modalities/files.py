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
scaled by the least and the greatest value of train (of all, where splits are yet to be drawn),
which is said; a trained functa scales those of other files as its own. Sound is 0.5 in silence.
"""

import sys
from pathlib import Path

import numpy as np

from functa_jax.modalities import own_arrays, own_folders
from groundfloor import errors
from groundfloor.data import datasets
from groundfloor.data.functions import FunctionSet, fingerprint
from groundfloor.data.split import PARTS, drawn
from groundfloor.errors import UserError
from groundfloor.runs import counted


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
            modality, parts, lattice, scale = own_folders.read(path)
        elif path.suffix.lower() == ".npz":
            modality, parts, lattice, scale = own_arrays.read(path)
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
        scale,
    )


def _held_out(split, keys, share, use):
    """(the split without those drawn for `use`, these, the keys of the first)."""
    held = drawn(keys, share, use)
    left = [key for key, out in zip(keys, held, strict=True) if not out]
    return split.take(~held), split.take(held), left
