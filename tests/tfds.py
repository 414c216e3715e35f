"""Writes small TFDS folders for tests, as `tfds build --file_format=array_record` would."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from groundfloor.data.datasets import load
from groundfloor.errors import UserError


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def pictures(count, side=8, channels=3, seed=0):
    shape = (count, side, side, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def rows_of(images, labels=None, ids=None):
    """Rows as TFDS stores them: image bytes, and label and id where given."""
    rows = [{"image": png(image.squeeze())} for image in images]
    for row, label in zip(rows, [] if labels is None else labels, strict=False):
        row["label"] = int(label)
    for row, name in zip(rows, ids or [], strict=False):
        row["id"] = name
    return rows


def write_shard(path, rows):
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    path.unlink(missing_ok=True)
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for row in rows:
        example = tf_example_pb2.Example()
        for key, value in row.items():
            feature = example.features.feature[key]
            if isinstance(value, int):
                feature.int64_list.value.append(value)
            else:
                feature.bytes_list.value.append(value)
        writer.write(example.SerializeToString())
    writer.close()


def write_tfds(root, name, splits, *, num_classes=10, shape=(8, 8, 3), version="1.0.0", shards=2):
    """A TFDS folder `root/name/version` holding the rows {split: [row, …]}; returns the folder."""
    folder = root / name / version
    folder.mkdir(parents=True)
    infos = []
    for split, rows in splits.items():
        pieces = np.array_split(np.arange(len(rows)), shards)
        for index, piece in enumerate(pieces):
            shard = f"{name}-{split}.array_record-{index:05}-of-{shards:05}"
            write_shard(folder / shard, [rows[i] for i in piece])
        infos.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": "1",
                "shardLengths": [str(len(piece)) for piece in pieces],
            }
        )
    info = {"fileFormat": "array_record", "name": name, "version": version, "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    prefix = "tensorflow_datasets.core.features."
    dimensions = [str(size or -1) for size in shape]  # -1: any
    features = {
        "image": {
            "image": {"dtype": "uint8", "shape": {"dimensions": dimensions}},
            "pythonClassName": prefix + "image_feature.Image",
        },
        "label": {
            "classLabel": {"numClasses": str(num_classes)},
            "pythonClassName": prefix + "class_label_feature.ClassLabel",
        },
        "id": {"text": {}, "pythonClassName": prefix + "text_feature.Text"},
    }
    sample = next(iter(splits.values()))[0]
    content = {
        "featuresDict": {"features": {key: features[key] for key in features if key in sample}},
        "pythonClassName": prefix + "features_dict.FeaturesDict",
    }
    (folder / "features.json").write_text(json.dumps(content))
    return folder


def same(a, b):
    """Whether two splits are equal."""
    columns = ("images", "labels", "ids")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns)


def labelled(count, seed=0):
    images = pictures(count, seed=seed)
    return images, np.arange(count) % 10, rows_of(images, np.arange(count) % 10)


def write_small(root, name="small", **kwargs):
    return write_tfds(root, name, {"train": labelled(40)[2], "test": labelled(20, 1)[2]}, **kwargs)


def shard(folder, part="test", index=1):
    return next(folder.glob(f"*-{part}.array_record-{index:05}-of-*"))


def rewrite(path, change):
    """Replace the content of a (perhaps read-only) file."""
    data = change(path.read_bytes())
    path.unlink()
    path.write_bytes(data)


def fault(*args, **kwargs):
    """The message of the UserError that load must raise: always one line."""
    with pytest.raises(UserError) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message
