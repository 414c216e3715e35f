"""Image data sets as NumPy arrays: the embedded ones, TFDS folders and torchvision folders.

    data = load("cifar10", "~/data")          # train 45,000, val 5,000, test 10,000
    data.train.images                         # uint8 (45000, 32, 32, 3)

`digits` and `photos` come with scikit-learn.  Any other name is looked for in `data_dir` as
`<name>/<version>` or `tfds/<name>/<version>` (a prepared TFDS image set; reading it needs no
TensorFlow) and, for the names in `TORCHVISION`, as the folder that torchvision makes.
"""

import contextlib
import hashlib
import io
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError

TORCHVISION = {  # name: class, folder inside data_dir, training images (all have 10,000 for test)
    "mnist": ("MNIST", "MNIST/raw", 60_000),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw", 60_000),
    "kmnist": ("KMNIST", "KMNIST/raw", 60_000),
    "cifar10": ("CIFAR10", "cifar-10-batches-py", 50_000),
    "cifar100": ("CIFAR100", "cifar-100-python", 50_000),
}
SPLIT_SEED = 0  # fixed: every study of every package holds out the same validation images
CACHE_FROM = 10_000  # images; larger TFDS sets keep their decoded pixels (0.1 ms an image saved)


@dataclass(frozen=True, eq=False)
class Split:
    """images uint8 (n, h, w, c); labels int64 (n,), -1 without labels; ids int64 (n,).

    An id is the row of the image in the published train (or test) file, whatever was held out.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self):
        return len(self.images)

    def take(self, indices):
        """The rows `indices` (integers, a slice or a mask) as a new Split."""
        return Split(self.images[indices], self.labels[indices], self.ids[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint splits; `num_classes` is 0 without labels.

    `fingerprint` is 16 hexadecimal digits of the SHA-256 of all images and labels (train with
    val, then test, at the resolution loaded): it does not depend on `val_fraction`.
    """

    name: str
    train: Split
    val: Split
    test: Split
    num_classes: int
    fingerprint: str


def load(name, data_dir=None, *, download=False, resolution=None, val_fraction=0.1):
    """Load the data set `name` as a `Dataset`.

    data_dir: folder to look in; default `$FUNCTA_DATA` or `~/.cache/functa`.
    download: let torchvision fetch the set (names in `TORCHVISION`) when it is not there.
    resolution: None, or a side in pixels that divides the stored square side: block means,
        rounded to uint8 (for a factor of 2 this is bilinear resizing without antialiasing).
    val_fraction: share of train held out for validation, in [0, 1); stratified by label.

    `digits` (8x8, 17 grey levels spread over 0..255) has no official split: 1,437 / 360 here.
    `photos` (two of 427x640) is for fitting single images: both are train; val, test are empty.
    A TFDS set without a test split gives the last 10 % of its train rows, as DeepMind's functa.
    Raises UserError, in one line, for everything that is missing, damaged or impossible.
    """
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction {val_fraction} is not in [0, 1)")
    if name == "digits":
        train, test, num_classes = _digits()
    elif name == "photos":
        train, test, num_classes = _photos()
        val_fraction = 0
    else:
        train, test, num_classes = _find(name, data_dir, download)
    if resolution is not None:
        train, test = (
            Split(reduce_blocks(part.images, resolution), part.labels, part.ids)
            for part in (train, test)
        )
    fingerprint = _fingerprint(train, test)
    train, val = _hold_out(train, round(val_fraction * len(train)))
    return Dataset(name, train, val, test, num_classes, fingerprint)


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


def _hold_out(split, count):
    """`split` without `count` rows, and these rows: stratified where labelled, ids in order."""
    if count == 0:
        return split, split.take(slice(0))
    from sklearn.model_selection import train_test_split

    labelled = split.labels.min() >= 0
    try:
        kept, held = train_test_split(
            np.arange(len(split)),
            test_size=count,
            stratify=split.labels if labelled else None,
            random_state=SPLIT_SEED,
        )
    except ValueError as error:
        raise UserError(
            f"cannot hold {count} of {len(split)} training images out for validation "
            f"({_first_line(error)}): choose another val_fraction, 0 for none"
        ) from None
    return split.take(np.sort(kept)), split.take(np.sort(held))


def _fingerprint(*splits):
    digest = hashlib.sha256()
    for split in splits:
        digest.update(repr(split.images.shape).encode())
        digest.update(np.ascontiguousarray(split.images))
        digest.update(np.ascontiguousarray(split.labels))
    return digest.hexdigest()[:16]


# ---- embedded in scikit-learn ----


def _digits():
    from sklearn.datasets import load_digits

    source = load_digits()
    images = np.rint(source.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int64)
    train, test = _hold_out(Split(images, labels, np.arange(len(images))), 360)
    return train, test, 10


def _photos():
    from sklearn.datasets import load_sample_images

    photos = Split(np.stack(load_sample_images().images), np.full(2, -1), np.arange(2))
    return photos, photos.take(slice(0)), 0


# ---- folders ----


def _find(name, data_dir, download):
    """(train, test, num_classes) of a set kept in a folder, in published order."""
    data_dir = Path(data_dir or os.environ.get("FUNCTA_DATA") or "~/.cache/functa").expanduser()
    roots = [data_dir / name, data_dir / "tfds" / name]
    for root in roots:
        numbered = [p for p in root.glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
        versions = [p for p in numbered if p.is_dir()]
        if versions:
            newest = max(versions, key=lambda p: [int(part) for part in p.name.split(".")])
            return _checked(name, newest, *_read_tfds(newest))
    looked = " and ".join(f"{root}/<version>" for root in roots)
    if name not in TORCHVISION:
        raise UserError(
            f"unknown data set {name!r}: not a built-in name (digits, photos, "
            f"{', '.join(TORCHVISION)}), and no TFDS folder {looked}; prepare one with "
            f"tfds build {name} --file_format=array_record --data_dir={data_dir}"
        )
    folder = data_dir / TORCHVISION[name][1]
    if not download and not folder.is_dir():
        raise UserError(
            f"{name} not found: looked for {looked} and {folder}; get it with --download, or put "
            "it in one of these places, or set $FUNCTA_DATA to the folder that holds it"
        )
    return _checked(name, folder, *_read_torchvision(name, data_dir, folder, download))


def _checked(name, folder, train, test, num_classes):
    """The same, once counts, shapes and labels are what they must be."""
    for part, split in (("train", train), ("test", test)):
        if len(split) != len(split.labels):
            _damaged(folder, f"{part} has {len(split):,} images, {len(split.labels):,} labels")
        if name in TORCHVISION:
            expected = TORCHVISION[name][2] if part == "train" else 10_000
            if len(split) != expected:
                _damaged(folder, f"{name} has {expected:,} {part} images, found {len(split):,}")
        wrong = (split.labels < 0) | (split.labels >= num_classes)
        if num_classes and wrong.any():
            label = split.labels[wrong.argmax()]
            _damaged(folder, f"{part} has a label {label} outside 0..{num_classes - 1}")
    if train.images.shape[1:] != test.images.shape[1:]:
        _damaged(folder, "train and test images differ in size")
    return train, test, num_classes


def _damaged(path, fault):
    raise UserError(
        f"{path}: {fault}; delete the set and get it again (copy it, or tfds build, or --download)"
    )


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


# ---- torchvision ----


def _read_torchvision(name, data_dir, folder, download):
    import torchvision

    kind = getattr(torchvision.datasets, TORCHVISION[name][0])
    splits = []
    try:
        for train in (True, False):
            source = kind(data_dir, train=train, download=download)
            images, labels = np.asarray(source.data), np.asarray(source.targets, np.int64)
            images = images.reshape(*images.shape[:3], -1)
            splits.append(Split(images, labels, np.arange(len(images), dtype=np.int64)))
    except Exception as error:  # torchvision raises many kinds of error for the same damage
        path = _first_bad_file(kind, folder)
        if path and path.is_file():
            _damaged(path, "truncated or damaged")
        if download:
            raise UserError(
                f"download of {name} into {data_dir} failed ({_first_line(error)}): try again, "
                f"or copy the files into {folder}"
            ) from None
        _damaged(path or folder, "missing" if path else _first_line(error))
    return *splits, len(source.classes)


def _first_bad_file(kind, folder):
    """The first file of a torchvision folder that is missing or damaged."""
    if hasattr(kind, "resources"):  # the MNIST family: idx files, whose head tells their size
        for name, _ in kind.resources:
            path = folder / Path(name).stem
            data = path.read_bytes() if path.is_file() else b""
            start = 4 + 4 * data[3] if len(data) > 16 else 0
            if not start or len(data) - start != math.prod(np.frombuffer(data[4:start], ">u4")):
                return path
        return None
    meta = [(kind.meta["filename"], kind.meta["md5"])]
    for name, md5 in kind.train_list + kind.test_list + meta:
        path = folder / name
        if not path.is_file() or hashlib.md5(path.read_bytes()).hexdigest() != md5:
            return path
    return None


# ---- TFDS ----


def _read_tfds(folder):
    cache = _cache_path(folder)
    with contextlib.suppress(Exception), np.load(cache, allow_pickle=False) as file:
        train, test = ([file[f"arr_{i}"] for i in columns] for columns in ((0, 1, 2), (3, 4, 5)))
        return Split(*train), Split(*test), int(file["arr_6"])

    import tensorflow_datasets as tfds

    try:
        info = tfds.builder_from_directory(folder).info
        forms = [form.value for form in info.available_file_formats()]
        if "array_record" in forms:  # perhaps beside another, after tfds convert_format
            info.set_file_format("array_record", override=True, override_if_initialized=True)
        features, splits = dict(info.features.items()), dict(info.splits.items())
    except Exception as error:
        _damaged(folder, f"dataset_info.json or features.json is bad ({_first_line(error)})")
    if "array_record" not in forms:
        raise UserError(
            f"{folder} is in {forms[0]} form, which needs TensorFlow: run tfds convert_format "
            f"--dataset_version_dir={folder} --out_file_format=array_record"
        )
    if "image" not in features or "train" not in splits:
        raise UserError(
            f"{folder} is not an image set with a train split: it has features "
            f"{sorted(features)} and splits {sorted(splits)}"
        )
    shards = [_open_shards(splits[part]) for part in ("train", "test") if part in splits]
    total = sum(reader.num_records() for part in shards for _, reader in part)
    if total >= CACHE_FROM:
        print(f"decoding {total:,} images of {folder} once, into {cache}", file=sys.stderr)
    parts = [_decode(part, "label" in features) for part in shards]
    if len(parts) == 1:
        whole, cut = parts[0], round(0.9 * len(parts[0]))
        parts = [whole.take(slice(cut)), whole.take(slice(cut, None))]
    num_classes = getattr(features.get("label"), "num_classes", None)
    if num_classes is None:  # no labels (all are -1), or whole numbers without a stated range
        num_classes = 1 + max(int(part.labels.max(initial=-1)) for part in parts)
    if total >= CACHE_FROM:
        _write_cache(cache, *parts, num_classes)
    return *parts, num_classes


def _open_shards(split):
    """[(path, reader)] of the shards of a TFDS split, each with the rows it should have."""
    from array_record.python.array_record_module import ArrayRecordReader

    shards = []
    for path, rows in zip(map(Path, split.filepaths), split.shard_lengths, strict=True):
        if not path.is_file():
            _damaged(path, "missing")
        reader = ArrayRecordReader(str(path))
        if not reader.ok():
            _damaged(path, "truncated or damaged")
        if reader.num_records() != rows:
            found = reader.num_records()
            _damaged(path, f"holds {found:,} rows where dataset_info.json says {rows:,}")
        shards.append((path, reader))
    if not split.num_examples:
        raise UserError(f"split {split.name!r} of {split.filename_template.data_dir} is empty")
    return shards


def _decode(shards, labelled):
    """The Split in array_record shards of tf.train.Example rows with image, label and id.

    Twice as fast as the generic `as_data_source(split)[i]`, to which a test holds it equal.
    """
    from PIL import Image, UnidentifiedImageError
    from tensorflow_datasets.proto import tf_example_pb2

    images, labels, names = None, [], []
    count = sum(reader.num_records() for _, reader in shards)
    for path, reader in shards:
        try:
            for row in reader.read_all():
                feature = tf_example_pb2.Example.FromString(row).features.feature
                file = io.BytesIO(feature["image"].bytes_list.value[0])
                image = np.asarray(Image.open(file, formats=("PNG", "JPEG")))
                image = image[..., None] if image.ndim == 2 else image
                if images is None:
                    images = np.empty((count, *image.shape), np.uint8)
                if image.dtype != np.uint8 or image.shape != images.shape[1:]:
                    need = f"where uint8 {images.shape[1:]} is needed"
                    raise ValueError(f"image is {image.dtype} {image.shape} {need}")
                images[len(labels)] = image
                labels.append(feature["label"].int64_list.value[0] if labelled else -1)
                names.extend(feature["id"].bytes_list.value[:1])
        except Exception as error:
            known = {IndexError: "lacks image or label", UnidentifiedImageError: "no PNG or JPEG"}
            why = known.get(type(error)) or _first_line(error)
            _damaged(path, f"row {len(labels)} of the split is unusable ({why})")
        reader.close()
    split = Split(images, np.array(labels, np.int64), np.arange(count, dtype=np.int64))
    rows = [re.fullmatch(rb"[a-z]+_(\d+)", name) for name in names]
    if len(rows) < count or not all(rows):  # no ids, or such that are not row numbers
        return split
    ids = np.array([int(row[1]) for row in rows], np.int64)
    if len(np.unique(ids)) < count:
        _damaged(shards[0][0].parent, "ids repeat")
    order = np.argsort(ids)
    return Split(images[order], split.labels[order], ids[order])


def _cache_path(folder):
    """Where the decoded pixels of a folder are kept; named by path, sizes and times of its files.

    Zip checksums guard the content, and a file that cannot be read counts as absent.
    """
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    source = "v1", str(folder.resolve()), [(name, s.st_size, s.st_mtime_ns) for name, s in stats]
    key = hashlib.sha256(repr(source).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "functa" / "decoded" / f"{folder.parent.name}-{key}.npz"


def _write_cache(path, train, test, num_classes):
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):  # a full or read-only disk only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                columns = [(s.images, s.labels, s.ids) for s in (train, test)]
                np.savez(file, *columns[0], *columns[1], num_classes)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
