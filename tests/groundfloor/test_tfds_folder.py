"""tfds_folder by way of datasets.load: what is read, and one clear line for every fault."""

import json
import re

import numpy as np
import pytest

from groundfloor.data.datasets import load
from tests.tfds import (
    fault,
    labelled,
    pictures,
    rewrite,
    rows_of,
    shard,
    write_shard,
    write_small,
    write_tfds,
)

# ---- small TFDS folders ----


@pytest.mark.parametrize("place", ["", "tfds"])
def test_tfds_folder(tmp_path, place, monkeypatch):
    write_small(tmp_path / place)
    monkeypatch.setenv("FUNCTA_DATA", str(tmp_path))
    data = load("small", val_fraction=0.25)
    assert [len(part) for part in (data.train, data.val, data.test)] == [30, 10, 20]
    assert data.num_classes == 10
    images, labels, _ = labelled(40)
    for part in (data.train, data.val):
        assert np.array_equal(part.images, images[part.ids])
        assert np.array_equal(part.labels, labels[part.ids])
    assert np.array_equal(np.bincount(data.val.labels), np.ones(10))
    assert np.array_equal(data.test.images, labelled(20, 1)[0])
    assert np.array_equal(data.test.ids, np.arange(20))


def test_tfds_newest_version_by_number(tmp_path):
    for seed, version in enumerate(["3.0.9", "3.0.10", "2.11.0"]):
        write_tfds(tmp_path, "small", {"train": labelled(20, seed)[2]}, version=version)
    images = labelled(20, 1)[0]
    assert np.array_equal(load("small", tmp_path, val_fraction=0).train.images, images[:18])


def test_tfds_rows_are_sorted_by_published_id(tmp_path):
    images, order = pictures(30), np.random.default_rng(1).permutation(30)
    names = [b"train_%05d" % row for row in order]
    rows = rows_of(images[order], order % 10, names)
    write_tfds(tmp_path, "small", {"train": rows, "test": rows})
    test = load("small", tmp_path, val_fraction=0).test
    assert np.array_equal(test.images, images)
    assert np.array_equal(test.ids, np.arange(30)) and np.array_equal(test.labels, test.ids % 10)


def test_tfds_ids_that_are_no_row_numbers_keep_the_order(tmp_path):
    names = [b"%x.png" % (7919 * row) for row in range(20)]
    write_tfds(tmp_path, "small", {"train": rows_of(pictures(20), ids=names)})
    data = load("small", tmp_path, val_fraction=0)
    assert np.array_equal(data.train.images, pictures(20)[:18])
    assert data.train.ids.tolist() == list(range(18))


def test_unlabelled_train_only_gives_its_last_tenth_as_test(tmp_path):
    images = pictures(30)
    write_tfds(tmp_path, "celeb_a_hq_custom", {"train": rows_of(images)})
    data = load("celeb_a_hq_custom", tmp_path, val_fraction=1 / 9)
    assert data.num_classes == 0
    assert [len(part) for part in (data.train, data.val, data.test)] == [24, 3, 3]
    assert data.test.ids.tolist() == [27, 28, 29]
    for part in (data.train, data.val, data.test):
        assert np.array_equal(part.images, images[part.ids]) and (part.labels == -1).all()


def test_grey_images_have_one_channel(tmp_path):
    images = pictures(20, channels=1)
    write_tfds(tmp_path, "grey", {"train": rows_of(images)}, shape=(8, 8, 1))
    assert np.array_equal(load("grey", tmp_path, val_fraction=0).train.images, images[:18])


# ---- faults of TFDS folders ----


def test_unknown_name_lists_the_built_in_names(tmp_path):
    message = fault("cifar11", tmp_path)
    for part in ("'cifar11'", "digits", "photos", "mnist", "cifar10", str(tmp_path), "tfds build"):
        assert part in message


def test_missing_set_names_every_place_and_the_remedy(tmp_path):
    message = fault("cifar10", tmp_path)
    places = [tmp_path / p for p in ("cifar10", "tfds/cifar10", "cifar-10-batches-py")]
    for part in (*map(str, places), "--download", "$FUNCTA_DATA"):
        assert part in message


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[:100], lambda b: b[:65536], lambda b: b[:-70000], lambda b: b[:-1]],
    ids=["empty", "short", "one block", "last blocks", "last byte"],
)
def test_truncated_shard_is_named(tmp_path, damage):
    rows = rows_of(pictures(40, 64), np.arange(40) % 10)
    folder = write_tfds(tmp_path, "small", {"train": rows}, shape=(64, 64, 3))
    path = shard(folder, "train")
    rewrite(path, damage)
    assert str(path) in fault("small", tmp_path)


def test_flipped_byte_in_a_shard_is_found(tmp_path):
    path = shard(write_small(tmp_path))
    rewrite(path, lambda b: b[:1000] + bytes([b[1000] ^ 255]) + b[1001:])
    assert str(path) in fault("small", tmp_path)


def test_missing_shard_is_named(tmp_path):
    path = shard(write_small(tmp_path))
    path.unlink()
    assert f"{path}: missing" in fault("small", tmp_path)


@pytest.mark.parametrize("count", [9, 11])
def test_shard_with_another_number_of_rows(tmp_path, count):
    path = shard(write_small(tmp_path))
    write_shard(path, labelled(count)[2])
    message = fault("small", tmp_path)
    assert str(path) in message and f"holds {count} rows" in message and "10" in message


def test_published_counts_of_known_sets(tmp_path):
    write_small(tmp_path, "mnist")
    assert "mnist has 60,000 train images, found 40" in fault("mnist", tmp_path)


@pytest.mark.parametrize("label", [-2, 10])
def test_label_out_of_range(tmp_path, label):
    rows = labelled(20)[2]
    rows[3]["label"] = label
    folder = write_tfds(tmp_path, "small", {"train": labelled(40)[2], "test": rows})
    message = fault("small", tmp_path)
    assert str(folder) in message and f"label {label}" in message and "0..9" in message


def test_a_test_split_without_labels(tmp_path):
    splits = {"train": labelled(40)[2], "test": rows_of(pictures(20), np.full(20, -1))}
    write_tfds(tmp_path, "small", splits)
    message = fault("small", tmp_path)
    assert "test has images without label" in message and "delete" not in message


def test_images_of_differing_sizes(tmp_path):
    rows = rows_of(pictures(30)) + rows_of(pictures(10, 9))
    write_tfds(tmp_path, "small", {"train": rows})
    message = fault("small", tmp_path)
    assert "row 30" in message and "9x9x3 where 8x8x3" in message and "00001-of-00002" in message
    assert "delete" not in message
    write_tfds(tmp_path, "free", {"train": rows}, shape=(None, None, 3))
    assert "row 30" in fault("free", tmp_path)


def test_sizes_that_are_not_declared(tmp_path):
    rows = rows_of(pictures(30))
    write_tfds(tmp_path, "free", {"train": rows}, shape=(None, None, 3))
    assert np.array_equal(load("free", tmp_path, val_fraction=0).train.images, pictures(30)[:27])
    write_tfds(tmp_path, "wrong", {"train": rows}, shape=(None, 9, 3))
    assert "8x8x3 where 8x9x3" in fault("wrong", tmp_path)


def test_train_and_test_of_differing_sizes(tmp_path):
    splits = {"train": labelled(20)[2], "test": rows_of(pictures(9, 6), [1] * 9)}
    write_tfds(tmp_path, "small", splits, shape=(None, None, 3))
    assert "differ in size" in fault("small", tmp_path)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_images_of_more_bits_are_refused(tmp_path, dtype):
    folder = write_tfds(tmp_path, "small", {"train": rows_of(pictures(20, 8, 1))}, shape=(8, 8, 1))
    rewrite(folder / "features.json", lambda b: b.replace(b"uint8", dtype.encode()))
    message = fault("small", tmp_path)
    assert dtype in message and "8-bit images are needed" in message and "delete" not in message


def test_a_label_that_is_no_class_counts_as_none(tmp_path, capsys):
    folder = write_tfds(tmp_path, "small", {"train": labelled(20)[2]})
    path = folder / "features.json"
    description = json.loads(path.read_text())
    features = description["featuresDict"]["features"]
    prefix = "tensorflow_datasets.core.features."
    text = {"text": {}, "pythonClassName": prefix + "text_feature.Text"}
    scalar = {
        "tensor": {"dtype": "int64", "shape": {}, "encoding": "none"},
        "pythonClassName": prefix + "tensor_feature.Tensor",
    }
    for feature, classes, said in ((text, 0, 1), (scalar, 10, 0)):
        features["label"] = feature
        path.write_text(json.dumps(description))
        assert load("small", tmp_path, val_fraction=0.5).num_classes == classes
        assert capsys.readouterr().err.count("no class") == said
    for row in (rows := labelled(20)[2]):
        row["label"] += 10**9  # a date, a hash
    write_shard(shard(folder, "train", 0), rows[:10])
    assert load("small", tmp_path, val_fraction=0.5).train.labels.max() == -1
    assert capsys.readouterr().err.count("no class") == 1


def test_ids_that_count_within_a_class_keep_the_order(tmp_path):
    names = [b"%s_%d" % (kind, row) for kind in (b"dog", b"cat") for row in range(10)]
    write_tfds(tmp_path, "small", {"train": rows_of(pictures(20), ids=names)})
    assert np.array_equal(load("small", tmp_path, val_fraction=0).train.images, pictures(20)[:18])


@pytest.mark.parametrize(
    "key, value, reason",
    [("image", b"junk", "no PNG, JPEG"), ("image", None, "lacks"), ("label", None, "lacks")],
)
def test_row_without_image_or_label(tmp_path, key, value, reason):
    rows = labelled(20)[2]
    del rows[5][key]
    if value:
        rows[5][key] = value
    write_tfds(tmp_path, "small", {"train": rows})
    message = fault("small", tmp_path)
    assert "row 5" in message and reason in message


def test_row_with_a_cut_image(tmp_path):
    rows = labelled(20)[2]
    rows[5]["image"] = rows[5]["image"][:-60]
    write_tfds(tmp_path, "small", {"train": rows})
    assert "row 5" in fault("small", tmp_path)


def test_repeated_ids(tmp_path):
    write_tfds(tmp_path, "small", {"train": rows_of(pictures(20), ids=[b"train_1"] * 20)})
    assert "ids repeat" in fault("small", tmp_path)


def test_no_rows(tmp_path):
    folder = write_small(tmp_path)
    path = folder / "dataset_info.json"
    path.write_text(re.sub(r'\["10", "10"\]', '["0", "0"]', path.read_text()))
    for index in (0, 1):
        write_shard(shard(folder, index=index), [])
    assert "empty" in fault("small", tmp_path)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b'{"splits": 3}'])
def test_damaged_description(tmp_path, file, damage):
    path = write_small(tmp_path) / file
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert str(path.parent) in fault("small", tmp_path)


def test_other_file_format_names_the_conversion(tmp_path):
    path = write_small(tmp_path) / "dataset_info.json"
    info = json.loads(path.read_text()) | {"fileFormat": "tfrecord"}
    path.write_text(json.dumps(info))
    message = fault("small", tmp_path)
    assert "tfrecord" in message and "tfds convert_format" in message
    path.write_text(json.dumps(info | {"alternativeFileFormats": ["array_record"]}))
    assert len(load("small", tmp_path, val_fraction=0).train) == 40  # once it was converted


def test_folder_without_images_or_train(tmp_path):
    write_tfds(tmp_path, "small", {"validation": labelled(20)[2]})
    assert "validation" in fault("small", tmp_path)
