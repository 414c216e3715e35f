"""datasets: splits, the three kinds of sources, and one clear line for every fault.

The real MNIST and CIFAR-10 come from ../shared/data/tfds and are skipped where that is absent;
everything else runs on small TFDS folders written here.
"""

import importlib.util
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundfloor.data.datasets import Split, load, reduce_blocks
from groundfloor.errors import UserError
from tests.tfds import fault, pictures, rewrite, rows_of, same, write_tfds

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


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


def test_val_too_small_to_stratify_is_drawn_without_classes_and_says_so(capsys):
    data = load("digits", val_fraction=0.0001)  # rounds to none, and none is not what was asked for
    assert (len(data.train), len(data.val)) == (1436, 1)
    assert "whatever their class" in capsys.readouterr().err


def test_a_class_of_one_image(tmp_path, capsys):
    labels = np.minimum(np.arange(40), 1)  # one zero
    write_tfds(tmp_path, "small", {"train": rows_of(pictures(40), labels)}, num_classes=2)
    data = load("small", tmp_path, val_fraction=0.25)
    assert (len(data.train), len(data.val), len(data.test)) == (27, 9, 4)
    assert "small: validation images are drawn whatever their class" in capsys.readouterr().err


@pytest.mark.parametrize(
    "count, lengths", [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1))]
)
def test_the_smallest_sets(tmp_path, count, lengths):
    write_tfds(tmp_path, "tiny", {"train": rows_of(pictures(count))}, shards=1)
    data = load("tiny", tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == lengths


def test_nothing_left_to_train_on():
    assert "cannot hold 1,437 of the 1,437" in fault("digits", val_fraction=0.9999)


@pytest.mark.parametrize("count", [0, -1])
def test_impossible_number_of_images(count):
    assert f"images {count}: must be at least 1" in fault("digits", images=count)
    assert len(load("digits", images=1).train) == 1


# ---- places ----


@pytest.mark.parametrize("place", ["digits", "tfds/digits"])
def test_a_folder_named_as_an_embedded_set_is_not_passed_over(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    message = fault("digits", tmp_path)
    assert str(tmp_path / place) in message and "inside scikit-learn" in message


def test_flags_without_effect_on_an_embedded_set_are_said(tmp_path, capsys):
    load("digits")
    assert capsys.readouterr().err == ""
    load("digits", tmp_path)
    assert capsys.readouterr().err == "digits comes with scikit-learn: --data-dir without effect\n"
    load("photos", tmp_path, download=True)
    said = capsys.readouterr().err
    assert "--data-dir and --download without effect" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["../y", "a/../b", "/y", "y/", "", "a//b", "-x", "a b", "*"])
def test_names_that_are_neither_names_nor_paths(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x" / "1.0.0").mkdir(parents=True)
    message = fault(name, tmp_path)
    assert str(Path(name).name) in message and ("neither a name" in message or not name)


def test_a_set_with_a_configuration(tmp_path):
    write_tfds(tmp_path / "small", "blurred", {"train": rows_of(pictures(20))})
    data = load("small/blurred", tmp_path, val_fraction=0)
    assert np.array_equal(data.train.images, pictures(20)[:18])


def test_a_data_folder_that_is_a_file(tmp_path):
    (tmp_path / "x").write_text("")
    assert f"{tmp_path / 'x'} is a file" in fault("mnist", tmp_path / "x")


def test_files_that_may_not_be_read_are_not_called_damaged(tmp_path, monkeypatch):
    folder = write_tfds(tmp_path, "small", {"train": rows_of(pictures(20))})
    opened = Path.open

    def closed(path, *args, **kwargs):
        if "array_record" in path.name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", closed)
    for home in (Path.home(), Path("none")):  # with a place for decoded pixels and without
        monkeypatch.setattr(Path, "home", lambda home=home: home)
        message = fault("small", tmp_path)
        assert f"{folder}/" in message and "cannot be read: Permission denied" in message
        assert "delete" not in message


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
