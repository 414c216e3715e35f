"""common.datasets: splits, the three kinds of sources, and one clear line for every fault.

The real MNIST and CIFAR-10 come from ../shared/data/tfds and are skipped where that is absent;
everything else runs on small TFDS folders written here.
"""

import importlib.util
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import tfds_folder
from common.datasets import Split, load, reduce_blocks
from common.errors import UserError
from tests.tfds import pictures, png, rows_of, write_shard, write_tfds

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


# ---- helpers ----


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


def same(a, b):
    return (
        np.array_equal(a.images, b.images)
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.ids, b.ids)
    )


# ---- embedded sets ----


def test_digits_are_scikit_learns_scans():
    from sklearn.datasets import load_digits

    data, source = load("digits"), load_digits()
    assert [len(part) for part in (data.train, data.val, data.test)] == [1293, 144, 360]
    assert data.num_classes == 10
    for part in (data.train, data.val, data.test):
        assert part.images.dtype == np.uint8 and part.images.shape[1:] == (8, 8, 1)
        assert part.labels.dtype == part.ids.dtype == np.int64
        grey = source.images[part.ids][..., None] * 255 / 16
        assert np.abs(part.images - grey).max() <= 0.5
        assert np.array_equal(part.labels, source.target[part.ids])
        assert np.array_equal(part.ids, np.sort(part.ids))
    assert data.train.images.min() == 0 and data.train.images.max() == 255


def test_digits_splits_are_disjoint_whole_stratified_and_fixed():
    data, again, more = load("digits"), load("digits"), load("digits", val_fraction=0.5)
    parts = (data.train, data.val, data.test)
    assert np.array_equal(np.sort(np.concatenate([part.ids for part in parts])), np.arange(1797))
    for split in (data.val, data.test):
        share = len(split) / 1797
        everything = np.bincount(np.concatenate([part.labels for part in parts]))
        assert np.abs(np.bincount(split.labels) - share * everything).max() <= 1
    assert all(same(a, b) for a, b in zip(parts, (again.train, again.val, again.test), strict=True))
    assert same(data.test, more.test) and data.fingerprint == more.fingerprint
    assert len(more.val) == 718
    assert not len(load("digits", val_fraction=0).val)


def test_photos_are_two_photographs_for_single_image_fits():
    data = load("photos", val_fraction=0.5)
    assert data.train.images.shape == (2, 427, 640, 3) and data.train.images.dtype == np.uint8
    assert data.num_classes == 0 and data.train.labels.tolist() == [-1, -1]
    for empty in (data.val, data.test):
        assert len(empty) == 0 and empty.images.shape[1:] == (427, 640, 3)


def test_take_keeps_rows_together():
    split = load("digits").train
    rows = np.array([7, 3, 3])
    assert same(split.take(rows), Split(split.images[rows], split.labels[rows], split.ids[rows]))
    assert set(split.take(split.labels == 4).labels.tolist()) == {4}


def test_fingerprint_tells_data_apart():
    prints = [load("digits").fingerprint, load("digits", resolution=4).fingerprint]
    prints.append(load("photos").fingerprint)
    assert len(set(prints)) == 3 and all(re.fullmatch("[0-9a-f]{16}", p) for p in prints)


@pytest.mark.parametrize(
    "name, needs, message",
    [
        ("digits", {"channels": 3}, "digits has 1 channel, the model takes 3"),
        ("photos", {"channels": 1}, "photos has 3 channels, the model takes 1"),
        ("photos", {"classes": 2}, "photos has no labels, which are needed here"),
        ("digits", {"classes": 11}, "digits has 10 classes in train, at least 11 are needed"),
        ("photos", {"val": 1}, "photos has 0 images in val, at least 1 needed"),
        ("digits", {"test": 361}, "digits has 360 images in test, at least 361 needed"),
    ],
)
def test_what_a_model_needs_of_the_data(name, needs, message):
    with pytest.raises(UserError) as refusal:
        load(name).require(**needs)
    assert str(refusal.value) == message
    load("digits").require(channels=1, classes=10, val=144, test=360)
    assert load("digits", images=1).require(classes=1) is None


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_impossible_val_fraction(share):
    assert "val_fraction" in fault("digits", val_fraction=share)


def test_val_too_small_to_stratify():
    assert "hold 1 of 1437" in fault("digits", val_fraction=0.0005)


# ---- resolution ----


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 3),
    side=st.integers(1, 6),
    factor=st.integers(1, 5),
    channels=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_block_means_equal_a_slow_loop(count, side, factor, channels, seed):
    images = pictures(count, side * factor, channels, seed)
    small = reduce_blocks(images, side)
    assert small.shape == (count, side, side, channels) and small.dtype == np.uint8
    for n in range(count):
        for i in range(side):
            for j in range(side):
                block = images[n, i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
                mean = block.reshape(-1, channels).mean(0, dtype=np.float64)
                assert np.array_equal(small[n, i, j], np.rint(mean))


def test_halving_is_bilinear_without_antialias():
    torch = pytest.importorskip("torch")
    images = pictures(5, 16)
    planes = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float64))
    half = torch.nn.functional.interpolate(planes, (8, 8), mode="bilinear", antialias=False)
    assert np.abs(half.numpy().transpose(0, 2, 3, 1) - reduce_blocks(images, 8)).max() <= 0.5


def test_resolution_of_a_data_set():
    full, small = load("digits"), load("digits", resolution=4)
    for a, b in ((full.train, small.train), (full.val, small.val), (full.test, small.test)):
        assert np.array_equal(reduce_blocks(a.images, 4), b.images)
        assert np.array_equal(a.ids, b.ids)
    assert load("digits", resolution=8).fingerprint == full.fingerprint


@pytest.mark.parametrize("resolution", [0, -4, 3, 5, 16])
def test_impossible_resolution(resolution):
    assert f"resolution {resolution}" in fault("digits", resolution=resolution)


def test_only_square_images_are_reduced():
    assert "427x640" in fault("photos", resolution=61)


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


def test_decoded_cache_is_used_renewed_and_never_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds_folder, "CACHE_FROM", 50)
    folder = write_small(tmp_path)
    first = load("small", tmp_path, val_fraction=0.25)
    (cached,) = (tmp_path / "cache" / "functa" / "decoded").iterdir()  # no temporary file left
    decoded = []
    decode = tfds_folder._decode
    monkeypatch.setattr(tfds_folder, "_decode", lambda *a: decoded.append(1) or decode(*a))
    for damage in (lambda b: b[:-50], lambda b: b[:3000] + b"no" + b[3002:], lambda b: b""):
        again = load("small", tmp_path, val_fraction=0.25)
        assert not decoded and again.fingerprint == first.fingerprint
        assert same(again.val, first.val) and again.num_classes == 10
        rewrite(cached, damage)
        assert (
            load("small", tmp_path, val_fraction=0.25).fingerprint == first.fingerprint
            and len(decoded) == 2
        )
        decoded.clear()
    rewrite(shard(folder), lambda data: data[:1000])  # the source counts, not the cache
    assert shard(folder).name in fault("small", tmp_path)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tfds_folder, "CACHE_FROM", 1)
    write_small(tmp_path)
    assert len(load("small", tmp_path, val_fraction=0.25).test) == 20


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


@pytest.mark.parametrize("label", [-1, 10])
def test_label_out_of_range(tmp_path, label):
    rows = labelled(20)[2]
    rows[3]["label"] = label
    folder = write_tfds(tmp_path, "small", {"train": labelled(40)[2], "test": rows})
    message = fault("small", tmp_path)
    assert str(folder) in message and f"label {label}" in message and "0..9" in message


def test_images_of_differing_sizes(tmp_path):
    rows = rows_of(pictures(30)) + rows_of(pictures(10, 9))
    write_tfds(tmp_path, "small", {"train": rows})
    message = fault("small", tmp_path)
    assert "row 30" in message and "(9, 9, 3)" in message and "00001-of-00002" in message


def test_train_and_test_of_differing_sizes(tmp_path):
    write_tfds(
        tmp_path, "small", {"train": labelled(20)[2], "test": rows_of(pictures(9, 6), [1] * 9)}
    )
    assert "differ in size" in fault("small", tmp_path)


def test_sixteen_bit_images_are_refused(tmp_path):
    deep = png(np.full((8, 8), 4000, np.uint16))
    write_tfds(tmp_path, "small", {"train": [{"image": deep}] * 20}, shape=(8, 8, 1))
    assert "uint16" in fault("small", tmp_path)


@pytest.mark.parametrize(
    "key, value, reason",
    [("image", b"junk", "no PNG or JPEG"), ("image", None, "lacks"), ("label", None, "lacks")],
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


# ---- torchvision folders, made up ----


def write_idx(folder, train=60_000, test=10_000):
    """Blank MNIST in torchvision's layout."""
    folder.mkdir(parents=True)
    for stem, count in (("train", train), ("t10k", test)):
        images = struct.pack(">IIII", 2051, count, 28, 28) + bytes(count * 784)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">II", 2049, count) + bytes(i % 10 for i in range(count))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(labels)


@pytest.mark.parametrize(
    "file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"]
)
@pytest.mark.parametrize("keep", [0, 3, 15, -1, None])
def test_damaged_mnist_file_is_named(tmp_path, file, keep):
    write_idx(tmp_path / "MNIST" / "raw", train=50, test=20)
    path = tmp_path / "MNIST" / "raw" / file
    if keep is None:
        path.unlink()
        assert f"{path}: missing" in fault("mnist", tmp_path)
    else:
        path.write_bytes(path.read_bytes()[:keep])
        assert f"{path}: truncated" in fault("mnist", tmp_path)


def test_mnist_family_counts_and_labels(tmp_path):
    folder = tmp_path / "KMNIST" / "raw"
    write_idx(folder, train=100)
    assert "kmnist has 60,000 train images, found 100" in fault("kmnist", tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 4) + bytes(4))
    assert "100 images, 4 labels" in fault("kmnist", tmp_path)
    write_idx(tmp_path / "FashionMNIST" / "raw")
    path = tmp_path / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    assert "label 11 outside 0..9" in fault("fashion_mnist", tmp_path)


def test_empty_cifar_folder(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert "data_batch_1: missing" in fault("cifar10", tmp_path)


def test_failed_download(tmp_path, monkeypatch):
    import torchvision

    def refuse(*args, **kwargs):
        raise OSError("no route to host\nat all")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", refuse)
    message = fault("cifar10", tmp_path, download=True)
    assert "download" in message and "no route to host" in message and str(tmp_path) in message


# ---- the real sets ----


@pytest.fixture
def shared():
    if not (SHARED / "tfds").is_dir():
        pytest.skip("needs the real MNIST and CIFAR-10 in ../shared/data/tfds")
    return SHARED


def write_torchvision(destination, shared, data, monkeypatch):
    """Run shared/data/to_torchvision.py on `data` alone (its own decoder takes a minute).

    For CIFAR-10 it compares the md5 of each file with the published one, so that it proves
    our pixels, labels and order right to the last byte.
    """
    spec = importlib.util.spec_from_file_location("to_torchvision", shared / "to_torchvision.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    blank = Split(np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, int), None)

    def arrays(name, version, part):
        split = getattr(data, part) if name == data.name else blank
        return split.images, split.labels.astype(np.uint8)

    monkeypatch.setattr(script, "arrays", arrays)
    if data.name != "cifar10":
        monkeypatch.setattr(script, "MD5", {})
    script.main(destination)


@pytest.mark.slow
@pytest.mark.parametrize("name, version", [("mnist", "3.0.1"), ("cifar10", "3.0.2")])
def test_real_set_is_the_same_from_tfds_and_from_torchvision(
    name, version, shared, tmp_path, monkeypatch
):
    import tensorflow_datasets as tfds

    data = load(name, shared)
    counts = {"mnist": (54_000, 6_000), "cifar10": (45_000, 5_000)}[name]
    assert (len(data.train), len(data.val), len(data.test)) == (*counts, 10_000)
    assert data.num_classes == 10
    assert np.array_equal(np.sort(np.r_[data.train.ids, data.val.ids]), np.arange(sum(counts)))
    assert np.array_equal(data.test.ids, np.arange(10_000))
    everything = np.bincount(np.r_[data.train.labels, data.val.labels])
    assert np.abs(np.bincount(data.val.labels) - everything / 10).max() <= 1

    folder = shared / "tfds" / name / version  # our row decoder against the generic one
    source = tfds.builder_from_directory(folder).as_data_source("test")
    for index in range(0, 10_000, 500):
        row = source[index]
        at = int(row["id"].split(b"_")[1]) if "id" in row else index
        assert np.array_equal(data.test.images[at], row["image"])
        assert data.test.labels[at] == row["label"]

    write_torchvision(tmp_path, shared, load(name, shared, val_fraction=0), monkeypatch)
    twin = load(name, tmp_path)
    assert twin.fingerprint == data.fingerprint
    assert same(twin.train, data.train) and same(twin.val, data.val) and same(twin.test, data.test)

    if name == "cifar10":
        path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
        rewrite(path, lambda b: b[:-1])
        assert f"{path}: truncated or damaged" in fault(name, tmp_path)


def test_truncated_shard_of_the_real_mnist(shared, tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for path in (shared / "tfds" / "mnist" / "3.0.1").iterdir():
        if path.name.startswith("mnist-test"):
            (folder / path.name).write_bytes(path.read_bytes()[:3_000_000])
        else:
            (folder / path.name).symlink_to(path)
    assert "mnist-test.array_record-00000-of-00001" in fault("mnist", tmp_path)
