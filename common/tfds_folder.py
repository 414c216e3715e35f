"""TFDS image sets as NumPy arrays, read from their array_record files without TensorFlow."""

import contextlib
import hashlib
import io
import os
import re
import sys
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.split import Split, damaged, first_line

CACHE_FROM = 10_000  # images; larger sets keep their decoded pixels (0.1 ms an image saved)


def read(folder):
    """(train, test, num_classes) of a prepared TFDS folder, in published order where ids tell it.

    A set without a test split gives the last 10 % of its train rows for that.
    Raises UserError for what is missing, damaged or no image set.
    """
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
        damaged(folder, f"dataset_info.json or features.json is bad ({first_line(error)})")
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
            damaged(path, "missing")
        reader = ArrayRecordReader(str(path))
        if not reader.ok():
            damaged(path, "truncated or damaged")
        if reader.num_records() != rows:
            found = reader.num_records()
            damaged(path, f"holds {found:,} rows where dataset_info.json says {rows:,}")
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
            why = known.get(type(error)) or first_line(error)
            damaged(path, f"row {len(labels)} of the split is unusable ({why})")
        reader.close()
    split = Split(images, np.array(labels, np.int64), np.arange(count, dtype=np.int64))
    rows = [re.fullmatch(rb"[a-z]+_(\d+)", name) for name in names]
    if len(rows) < count or not all(rows):  # no ids, or such that are not row numbers
        return split
    ids = np.array([int(row[1]) for row in rows], np.int64)
    if len(np.unique(ids)) < count:
        damaged(shards[0][0].parent, "ids repeat")
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
