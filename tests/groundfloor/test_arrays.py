"""Images of one's own in .npy and .npz files, and the readers of such files."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from groundfloor import npz
from groundfloor.data.datasets import load
from groundfloor.errors import UserError
from tests.tfds import fault, pictures, same


def write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_images_and_labels_come_back(tmp_path):
    images, labels = pictures(40), np.arange(40) % 4
    data = load(write(tmp_path / "a.npz", images=images, labels=labels[:, None]))
    assert data.num_classes == 4
    counts = [len(part) for part in (data.train, data.val, data.test)]
    assert sum(counts) == 40 and min(counts) > 0
    for part in (data.train, data.val, data.test):
        assert np.array_equal(part.images, images[part.ids])
        assert np.array_equal(part.labels, labels[part.ids])
    np.save(tmp_path / "a.npy", images)
    bare = load(str(tmp_path / "a.npy"))
    assert bare.num_classes == 0 and np.array_equal(bare.train.images, images[bare.train.ids])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_the_bytes_that_they_were(tmp_path, dtype):
    images = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (12, 1, 1))
    data = load(write(tmp_path / "a.npz", images=(images / 255).astype(dtype)))
    assert np.array_equal(data.train.images[..., 0], images[: len(data.train)])


def test_splits_that_are_there_stay(tmp_path):
    arrays = {f"{part}_images": pictures(n, seed=n) for part, n in (("train", 9), ("val", 4))}
    labels = {f"{part}_labels": np.zeros(n, np.uint8) for part, n in (("train", 9), ("val", 4))}
    data = load(write(tmp_path / "a.npz", **arrays, **labels))
    assert [len(part) for part in (data.train, data.val, data.test)] == [8, 4, 1]
    assert np.array_equal(data.val.images, arrays["val_images"][data.val.ids - 9])
    assert sorted(data.val.ids) == [9, 10, 11, 12]
    wide = {"train_images": pictures(9)[:, :4], "test_images": pictures(3, seed=1)[:, :4]}
    data = load(write(tmp_path / "b.npz", **wide), val_fraction=0)
    assert np.array_equal(data.test.images, wide["test_images"])
    assert np.array_equal(data.train.images, wide["train_images"])
    other = load(write(tmp_path / "c.npz", **wide, val_images=pictures(3)[:, :4]))
    assert other.fingerprint != data.fingerprint and same(other.test, data.test)


def test_the_first_rows_are_of_all_classes_even_where_the_file_is_sorted(tmp_path):
    labels = np.repeat(np.arange(5), 40)
    data = load(write(tmp_path / "a.npz", images=pictures(200), labels=labels), images=50)
    assert set(data.train.labels) == set(range(5))
    assert np.bincount(data.train.labels).max() < 25


def test_any_resolution(tmp_path):
    images = np.full((12, 9, 14, 3), 77, np.uint8)
    path = write(tmp_path / "a.npz", images=images)
    assert (load(path, resolution=5).train.images == 77).all()
    assert load(path, resolution=5).train.images.shape[1:] == (5, 5, 3)
    assert load(path).train.images.shape[1:] == (9, 14, 3)
    square = write(tmp_path / "b.npz", images=pictures(12))
    assert load(square, resolution=8).fingerprint == load(square).fingerprint


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": np.zeros(3)}, "holds x; images is needed, or train_images"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, "(2, 3, 8, 8)"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "(0, 8, 8, 1)"),
        ({"images": np.zeros((2, 8, 8), np.int64)}, "int64"),
        ({"images": np.full((2, 8, 8), 255.0)}, "from 255 to 255"),
        ({"images": np.full((2, 8, 8), np.nan)}, "nan"),
        ({"images": pictures(2), "labels": np.zeros(3, int)}, "there are 2 images"),
        ({"images": pictures(2), "labels": np.array([0.5, 1])}, "whole numbers"),
        ({"images": pictures(2), "labels": np.array([-1, 1])}, "whole numbers"),
        ({"images": pictures(2), "labels": np.array([0, 10**9])}, "whole numbers"),
        (
            {"train_images": pictures(2), "train_labels": [0, 1], "test_images": pictures(2)},
            "labels of train alone",
        ),
        ({"train_images": pictures(2), "test_images": pictures(2, 9)}, "differ in the size"),
        ({"images": pictures(2), "train_images": pictures(2)}, "images and train_images"),
        ({"images": pictures(2), "test_images": pictures(2)}, "images and test_images"),
    ],
)
def test_what_is_no_image_set(tmp_path, arrays, message):
    path = write(tmp_path / "a.npz", **arrays)
    said = fault(path)
    assert said.startswith(path) and message in said


def test_images_too_large_for_memory_are_one_line(tmp_path):
    path = write(tmp_path / "a.npz", images=pictures(40))
    assert "do not fit into memory" in fault(path, resolution=2**31 - 1)


def test_test_images_that_are_trained_on_are_counted(tmp_path, capsys):
    images = pictures(20)
    path = write(tmp_path / "a.npz", train_images=images, test_images=images[[3, 3, 7]])
    load(path)
    assert "3 images of 3 in test are in train, too" in capsys.readouterr().err
    load(write(tmp_path / "b.npz", train_images=images[:15], test_images=images[15:]))
    assert "too" not in capsys.readouterr().err


# ---- the reader ----


def test_a_zip_of_other_files_holds_no_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("images", "text")
    assert "other files than arrays" in fault(str(tmp_path / "a.npz"))


def test_npz_gives_its_arrays(tmp_path):
    path = write(tmp_path / "a.npz", a=np.arange(3), text="é")
    with npz.reading(path, "a text") as arrays:
        assert arrays["a"].tolist() == [0, 1, 2] and str(arrays["text"]) == "é"
    np.save(tmp_path / "a.npy", np.eye(2))
    assert np.array_equal(npz.read_array(tmp_path / "a.npy"), np.eye(2))


def read(path, *names):
    with npz.reading(path, "a text") as arrays:
        return [arrays[name] for name in names]


def refused(function, path, *names):
    with pytest.raises(UserError) as caught:
        function(path, *names)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_npz_says_in_one_line_what_is_wrong(tmp_path):
    good = tmp_path / "good.npz"
    write(good, a=np.random.default_rng(0).random(1000))
    assert "is not a text: it lacks b" in refused(read, good, "a", "b", "c")
    assert "not a .npy file (it is a .npz file)" in refused(npz.read_array, good)
    np.save(tmp_path / "a.npy", np.eye(2))
    assert "not a text (it is a .npy file)" in refused(read, tmp_path / "a.npy")
    assert "does not exist" in refused(read, tmp_path / "none.npz")
    assert "cannot be read: Is a directory" in refused(read, tmp_path)
    content = good.read_bytes()
    other = tmp_path / "other.npz"
    for damage in (b"", b"junk", content[:-1], content[:500], content[500:]):
        other.write_bytes(damage)
        refused(read, other)
    other.write_bytes(content[:1000] + bytes([content[1000] ^ 255]) + content[1001:])
    assert "damaged" in refused(read, other)


def test_pickles_are_never_opened(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(pickle.dumps(np.eye(2)))
    refused(read, path)
    file = io.BytesIO()
    np.savez(file, a=np.array([{}], object))
    path.write_bytes(file.getvalue())
    assert "damaged" in refused(read, path)
