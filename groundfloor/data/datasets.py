"""Image data sets as NumPy arrays: embedded ones, TFDS and torchvision folders, one's own files.

    data = load("cifar10", "~/data")          # train 45,000, val 5,000, test 10,000
    data.train.images                         # uint8 (45000, 32, 32, 3)
    data = load("~/photos", resolution=64)    # a folder of images, or a .npy or .npz file

`digits` and `photos` come with scikit-learn. Any other name is looked for in `data_dir` as
`<name>/<version>` or `tfds/<name>/<version>` (a prepared TFDS image set; reading it needs no
TensorFlow) and, for the names in `TORCHVISION`, as the folder that torchvision makes; last, as a
path: see `folder` and `arrays`.
"""

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from groundfloor.checks import PlainName
from groundfloor.data import arrays, folder, tfds_folder, torchvision_folder
from groundfloor.data.split import SPLIT_SEED, Split, damaged, drawn, require_enough
from groundfloor.data.torchvision_folder import TORCHVISION
from groundfloor.errors import UserError, first_line, unreadable
from groundfloor.runs import counted

TEST_SHARE = 0.1  # of one's own images that come without test split
SMALLEST = 10  # of one's own images that are split at all


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint splits; `num_classes` is 0 without labels.

    `name`: of one's own files the absolute path. `fingerprint` is 16 hexadecimal digits of the
    SHA-256 of all images and labels (train with val, then test, at the resolution loaded): it does
    not depend on `val_fraction`.
    """

    name: str
    train: Split
    val: Split
    test: Split
    num_classes: int
    fingerprint: str
    noun: ClassVar[str] = "image"

    def require(self, *, channels=None, classes=0, val=0, test=0):
        """UserError, in one line, where the data lack what a model or a command needs.

        channels: of colour, that the model takes; None for any. classes: how many different ones
        the labels of train must have at least. val, test: images there must be at least.
        """
        found = self.train.images.shape[3]
        if channels not in (None, found):
            raise UserError(
                f"{self.name} has {counted(found, 'channel')}, the model takes {channels}"
            )
        if classes and not self.num_classes:
            raise UserError(f"{self.name} has no labels, which are needed here")
        found = len(np.unique(self.train.labels))
        require_enough(self, found, classes, val, test)


def load(
    name,
    data_dir=None,
    *,
    download=False,
    resolution=None,
    size=None,
    skip_damaged=False,
    images=None,
    val_fraction=0.1,
    resident="yes",
):
    """Load the data set `name`, or that at the path `name`, as a `Dataset`.

    data_dir: folder to look in; default `$FUNCTA_DATA` or `~/.cache/functa`.
    download: let torchvision fetch the set (names in `TORCHVISION`) when it is not there.
    resolution: None, or a side in pixels that divides the stored square side: block means,
        rounded to uint8 (for a factor of 2 this is bilinear resizing without antialiasing). Of
        one's own files any side: `pictures.resized`.
    size: instead, (height, width) that images are brought to where `resolution` could.
    skip_damaged: leave out the damaged files of one's own folder.
    images: None, or at most this many of each split, the first ones.
    val_fraction: share of train held out for validation, in [0, 1); stratified by label.
    resident: "no" leaves the images of a TFDS set in their files, decoded where rows of them are
        taken (`records.Records`), "auto" those that take more than a quarter of the memory; the
        fingerprint is then one of the files. Other sets are kept in memory.

    `digits` (8x8, 17 grey levels spread over 0..255) has no official split: 1,437 / 360 here.
    `photos` (two of 427x640) is for fitting single images: both are train; val, test are empty.
    A TFDS set without a test split gives the last 10 % of its train rows, as DeepMind's functa.
    One's own files: splits that are there stay; else a tenth is drawn for test, and `val_fraction`
    of the others for val, each image by a hash of its content (`split.drawn`): images that are
    added later move no other. Of less than ten images all are train.
    Raises UserError, in one line, for everything that is missing, damaged or impossible.
    """
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction {val_fraction} is not in [0, 1)")
    if images is not None and images < 1:
        raise UserError(f"images {images}: must be at least 1")
    keys = None  # by which one's own images are drawn
    try:
        if name in EMBEDDED:
            _refuse_namesake(name, data_dir, download)
            splits, num_classes = EMBEDDED[name]()
        else:
            square = size is not None and size[0] == size[1]
            own = {"resolution": size[0] if square else resolution, "skip_damaged": skip_damaged}
            name, splits, num_classes, keys = _find(name, data_dir, download, own, resident)
    except OSError as error:  # permissions, a stale handle: no damage
        raise unreadable(error.filename or name, error) from None
    height, width = splits["train"].images.shape[1:3]
    if size is not None and size[0] == size[1] < height == width and height % size[0] == 0:
        resolution = size[0]
    if resolution is not None and not Path(name).is_absolute():
        if not isinstance(splits["train"].images, np.ndarray):
            raise UserError(
                f"{name} stays in its files, whose images are {height}x{width}: prepare it at that "
                "resolution, or give --resident yes"
            )
        splits = {
            part: Split(reduce_blocks(split.images, resolution), split.labels, split.ids)
            for part, split in splits.items()
        }
    fingerprint = _fingerprint(*splits.values())
    if "val" not in splits:
        splits["train"], splits["val"] = _validation(name, splits["train"], val_fraction, keys)
    parts = (splits[part].take(slice(images)) for part in ("train", "val", "test"))
    return Dataset(name, *parts, num_classes, fingerprint)


def reduce_blocks(images, resolution):
    """Block means of images (n, s, s, c) uint8 -> (n, r, r, c) uint8, rounded half to even."""
    height, width = images.shape[1:3]
    if height != width or resolution < 1 or height % resolution:
        raise UserError(
            f"resolution {resolution} is impossible: the images are {height}x{width} and only "
            "a square side can be reduced, to a whole fraction of it"
        )
    factor = height // resolution
    if factor == 1:
        return images
    out = np.empty((len(images), resolution, resolution, images.shape[3]), np.uint8)
    for start in range(0, len(images), 1000):  # keeps the temporaries small
        chunk = images[start : start + 1000]
        total = np.zeros((len(chunk), *out.shape[1:]), np.uint32)
        for i in range(factor):
            for j in range(factor):
                total += chunk[:, i::factor, j::factor]
        out[start : start + 1000] = np.rint(total / factor**2)
    return out


# ---- splits ----


def _validation(name, train, share, keys):
    """`train` without the rows that are held out for validation, and these."""
    if not share or len(train) < 2:
        return train, train.take(slice(0))
    if keys is None:
        return _hold_out(name, train, max(1, round(share * len(train))), "validation")
    return _draw(train, keys, share, "val")


def _draw(split, keys, share, use):
    """`split` without the rows that are drawn by their `keys`, a list in the order of ids, and
    these."""
    held = drawn([keys[number] for number in split.ids], share, use)
    return split.take(~held), split.take(held)


def _hold_out(name, split, count, what):
    """`split` without `count` rows, and these: stratified where labelled, rows in order."""
    if count >= len(split):
        raise UserError(
            f"cannot hold {count:,} of the {counted(len(split), 'training image')} of {name} out "
            f"for {what}: choose another val_fraction, 0 for none"
        )
    from sklearn.model_selection import train_test_split

    rows, options = np.arange(len(split)), {"test_size": count, "random_state": SPLIT_SEED}
    labelled = split.labels.min() >= 0
    try:
        kept, held = train_test_split(rows, stratify=split.labels if labelled else None, **options)
    except ValueError as error:  # a class of one image, or more classes than images to hold out
        print(
            f"{name}: {what} images are drawn whatever their class ({first_line(error)})",
            file=sys.stderr,
        )
        kept, held = train_test_split(rows, **options)
    return split.take(np.sort(kept)), split.take(np.sort(held))


def _fingerprint(*splits):
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(split.images.shape).encode())
        if isinstance(split.images, np.ndarray):
            digest.update(np.ascontiguousarray(split.images))
        else:
            digest.update(split.images.fingerprint.encode())
        digest.update(np.ascontiguousarray(split.labels))
    return digest.hexdigest()[:16]


# ---- embedded in scikit-learn ----


def _digits():
    from sklearn.datasets import load_digits

    source = load_digits()
    images = np.rint(source.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int64)
    whole = Split(images, labels, np.arange(len(images)))
    return dict(zip(("train", "test"), _hold_out("digits", whole, 360, "test"), strict=True)), 10


def _photos():
    from sklearn.datasets import load_sample_images

    photos = Split(np.stack(load_sample_images().images), np.full(2, -1), np.arange(2))
    return _without_splits(photos), 0


def _without_splits(split):
    return {"train": split, "val": split.take(slice(0)), "test": split.take(slice(0))}


EMBEDDED = {"digits": _digits, "photos": _photos}


def _refuse_namesake(name, data_dir, download):
    """UserError where a folder in `data_dir` has the name of an embedded set; a line on stderr
    where flags have no effect."""
    if data_dir is not None:
        data_dir = _expanded(data_dir)
        for place in _roots(name, data_dir):
            if place.is_dir():
                raise UserError(
                    f"{name} is the set inside scikit-learn, and {place} is there too: "
                    "rename that folder, or leave --data-dir out"
                )
    unused = {"--data-dir": data_dir is not None, "--download": download}
    flags = " and ".join(flag for flag, given in unused.items() if given)
    if flags:
        print(f"{name} comes with scikit-learn: {flags} without effect", file=sys.stderr)


# ---- folders ----


def _find(name, data_dir, download, own, resident):
    """(name, {"train": Split, ...}, num_classes, None) of a set kept in files, in published order;
    of one's own images as `_own`, whose options are `own`.
    """
    data_dir = _expanded(data_dir or os.environ.get("FUNCTA_DATA") or "~/.cache/functa")
    if not name:
        raise UserError("data set '': a name or a path is needed")
    if not all(part and PlainName().fault(part) is None for part in name.split("/")):
        return _own(_own_path(name, data_dir), **own)
    if data_dir.exists() and not data_dir.is_dir():
        raise UserError(f"{data_dir} is a file; it must be the folder that holds {name}")
    roots = _roots(name, data_dir)
    for root in roots:
        numbered = [p for p in root.glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
        versions = [p for p in numbered if p.is_dir()]
        if versions:
            newest = max(versions, key=lambda p: [int(part) for part in p.name.split(".")])
            return _checked(name, newest, *tfds_folder.read(newest, resident))
    if name not in TORCHVISION and _own_path(name, data_dir).exists():
        return _own(_own_path(name, data_dir), **own)
    looked = " and ".join(f"{root}/<version>" for root in roots)
    if name not in TORCHVISION:
        raise UserError(
            f"unknown data set {name!r}: not a built-in name (digits, photos, "
            f"{', '.join(TORCHVISION)}), no file or folder, and no TFDS folder {looked}; prepare "
            "one with "
            f"tfds build {name} --file_format=array_record --data_dir={data_dir}"
        )
    place = data_dir / TORCHVISION[name][1]
    if not download and not place.is_dir():
        raise UserError(
            f"{name} not found: looked for {looked} and {place}; get it with --download (which "
            "functa_jax.meta_train has, if this command has not), or put it in one of these "
            "places, or set $FUNCTA_DATA to the folder that holds it"
        )
    return _checked(name, place, *torchvision_folder.read(name, data_dir, place, download))


def _own_path(name, data_dir):
    """The path that a data set's name is; of one that has moved, in `data_dir`."""
    try:
        path = _expanded(name).resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle, a byte 0
        raise UserError(f"data set {name!r} is no path ({first_line(error)})") from None
    moved = data_dir / path.name
    return moved if path.name and moved.exists() and not path.exists() else path


def _own(path, resolution, skip_damaged):
    """(path, {"train": Split, ...}, num_classes, keys of train by id) of one's own images."""
    if not path.exists():
        raise UserError(f"data set {path}: neither a name nor a file or folder that exists")
    if path.suffix.lower() in arrays.SUFFIXES:
        splits, num_classes, keys = arrays.read(path, resolution)
    elif path.is_dir() or path.suffix.lower() in folder.SUFFIXES:
        splits, num_classes, keys = folder.read(path, resolution, skip_damaged)
    else:
        raise UserError(f"{path} is no folder, image, .npy or .npz file")
    train = splits["train"]
    if splits.keys() == {"train"} and len(train) < SMALLEST:
        splits = _without_splits(train)
    elif "test" not in splits:
        splits["train"], splits["test"] = _draw(train, keys, TEST_SHARE, "test")
    _say_repeated(path, splits)
    return str(path), splits, num_classes, keys


def _say_repeated(path, splits):
    """One line on stderr where images of test are images of train, too."""
    seen = {_digest(image) for image in splits["train"].images}
    repeated = sum(_digest(image) in seen for image in splits["test"].images)
    if repeated:
        print(
            f"{path}: {counted(repeated, 'image')} of {len(splits['test']):,} in test "
            f"{'is' if repeated == 1 else 'are'} in train, too: numbers on test are too good",
            file=sys.stderr,
        )


def _digest(image):
    return hashlib.sha256(np.ascontiguousarray(image)).digest()


def _expanded(data_dir):
    try:
        return Path(data_dir).expanduser()
    except RuntimeError:
        raise UserError(
            f"there is no home directory to look for data in ({data_dir}): give --data-dir or set "
            "$FUNCTA_DATA"
        ) from None


def _roots(name, data_dir):
    """Where the versions of a prepared TFDS set may lie."""
    return [data_dir / name, data_dir / "tfds" / name]


def _checked(name, place, splits, num_classes):
    """(name, splits, num_classes, None), once counts, shapes and labels are what they must be."""
    for part, split in splits.items():
        if len(split) != len(split.labels):
            damaged(
                place,
                f"{part} has {counted(len(split), 'image')}, {counted(len(split.labels), 'label')}",
            )
        if name in TORCHVISION:
            expected = TORCHVISION[name][2] if part == "train" else 10_000
            if len(split) != expected:
                damaged(place, f"{name} has {expected:,} {part} images, found {len(split):,}")
        if num_classes and (split.labels == -1).any():
            raise UserError(f"{place}: {part} has images without label (-1) in a labelled set")
        wrong = (split.labels < 0) | (split.labels >= num_classes)
        if num_classes and wrong.any():
            label = split.labels[wrong.argmax()]
            damaged(place, f"{part} has a label {label} outside 0..{num_classes - 1}")
    if splits["train"].images.shape[1:] != splits["test"].images.shape[1:]:
        raise UserError(f"{place}: train and test images differ in size; all must be of one size")
    return name, splits, num_classes, None
