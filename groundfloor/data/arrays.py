"""Images of one's own in a .npy file, or with labels and splits in a .npz file.

.npz: images and perhaps labels; or train_images, perhaps val_images and test_images, and labels of
all of these (train_labels, ...) or of none.
"""

import hashlib
import sys

import numpy as np

from groundfloor import npz
from groundfloor.data import pictures
from groundfloor.data.split import PARTS, SPLIT_SEED, Split
from groundfloor.errors import UserError
from groundfloor.runs import counted

SUFFIXES = (".npy", ".npz")
MOST_CLASSES = 10_000  # numbers beyond are no classes but dates or hashes


def refuse_two_kinds(path, arrays, column):
    """UserError where a file has a column (images, values) both as a whole and by splits."""
    split = [f"{part}_{column}" for part in PARTS if f"{part}_{column}" in arrays]
    if column in arrays and split:
        raise UserError(
            f"{path} holds {column} and {split[0]}; name all by their splits (train_{column} ...)"
        )


def read(path, resolution=None):
    """({"train": Split, ...}, number of classes, 0 without labels, digests of train) of a file.

    Images are uint8, or floats in [0, 1] that become such, (n, h, w) or (n, h, w, c); labels whole
    numbers from 0 on, (n,) or (n, 1). ids count train's rows and then val's; test's from 0. Rows
    with labels come in a fixed random order, so that the first ones are of all classes. The
    digests, bytes by id, are of the stored images of train. resolution: as for `pictures.resized`.
    Raises UserError for all else.
    """
    if path.suffix.lower() == ".npy":
        arrays = {"train_images": npz.read_array(path)}
    else:
        with npz.reading(path, "a file of images") as arrays:
            refuse_two_kinds(path, arrays, "images")
            if "images" in arrays:
                arrays = {
                    f"train_{name}": arrays[name] for name in ("images", "labels") if name in arrays
                }
    parts = [part for part in PARTS if f"{part}_images" in arrays]
    if "train" not in parts:
        raise UserError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; images is needed, or train_images"
        )
    labelled = [part for part in parts if f"{part}_labels" in arrays]
    if labelled and labelled != parts:
        raise UserError(f"{path} has labels of {', '.join(labelled)} alone; give all or none")
    splits = {}
    for part in parts:
        images = _pixels(f"{path}: {part}_images", arrays[f"{part}_images"])
        if part == "train":
            contents = [hashlib.sha256(np.ascontiguousarray(image)).digest() for image in images]
        if resolution:
            try:
                images = pictures.resized(images, resolution)
            except (MemoryError, ValueError):  # ValueError: beyond what an address can count
                raise UserError(
                    f"{path}: {len(images):,} images of {resolution}x{resolution} do not fit into "
                    "memory"
                ) from None
        labels = np.full(len(images), -1, np.int64)
        if labelled:
            labels = classes(f"{path}: {part}_labels", arrays[f"{part}_labels"], len(images))
        ids = np.arange(len(images), dtype=np.int64)
        if part == "val":
            ids += len(splits["train"])
        splits[part] = Split(images, labels, ids)
        if labelled:
            order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
            splits[part] = splits[part].take(order)
    shapes = {split.images.shape[1:] for split in splits.values()}
    if len(shapes) > 1:
        raise UserError(f"{path}: its splits differ in the size of images: {sorted(shapes)}")
    num_classes = 1 + max(split.labels.max(initial=-1) for split in splits.values())
    counts = ", ".join(
        f"{counted(len(split), 'image')} in {part}" for part, split in splits.items()
    )
    kinds = f"labels 0 to {num_classes - 1}" if labelled else "no labels"
    print(f"{path}: {counts}, {kinds}", file=sys.stderr)
    return splits, int(num_classes), contents


def _pixels(what, images):
    """uint8 (n, h, w, c)."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape or images.shape[3] not in pictures.MODES:
        raise UserError(
            f"{what} has the shape {images.shape}; (n, h, w) or (n, h, w, 1 to 4 channels) "
            "is needed"
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{what} is {images.dtype}; uint8 is needed, or floats in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 1:
        raise UserError(f"{what} goes from {low:g} to {high:g}; floats must be in [0, 1]")
    out = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 1000):  # keeps the temporaries small
        chunk = images[start : start + 1000].astype(np.float64)
        out[start : start + 1000] = np.rint(255 * chunk)
    return out


def classes(what, labels, count, noun="images"):
    """Labels of so many images, int64 (count,), of an array that is checked; what: for errors."""
    if labels.shape not in ((count,), (count, 1)):
        raise UserError(f"{what} has the shape {labels.shape}; there are {count:,} {noun}")
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise UserError(f"{what} must be whole numbers of classes, 0, 1, ...")
    return labels.reshape(count).astype(np.int64)
