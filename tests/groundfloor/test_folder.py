"""One's own images by way of datasets.load: what comes in, and one clear line for every fault."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from groundfloor.data import folder, pictures
from groundfloor.data.datasets import load, reduce_blocks
from tests import tfds
from tests.tfds import fault

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(path, **options)


def write_classes(root, per_class=10, side=8):
    """root/COLOUR/NN.png: one colour a class, in shades; returns the images by sorted name."""
    images = []
    for name in sorted(COLOURS):
        for number in range(per_class):
            image = np.zeros((side, side, 3), np.uint8)
            image[:] = np.array(COLOURS[name], np.uint8) // 255 * (255 - number)
            write(root / name / f"{number:02d}.png", image)
            images.append(image)
    return np.stack(images)


def whole(data):
    """(images, labels) of all splits by id, of a set that came without splits."""
    parts = [data.train, data.val, data.test]
    ids = np.concatenate([part.ids for part in parts])
    assert np.array_equal(np.sort(ids), np.arange(len(ids)))
    order = np.argsort(ids)
    images = np.concatenate([part.images for part in parts])
    return images[order], np.concatenate([part.labels for part in parts])[order]


# ---- what comes in ----


@settings(max_examples=15)
@given(
    count=st.integers(1, 14),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_an_array_written_as_pictures_comes_back(
    tmp_path_factory, count, height, width, channels, seed
):
    images = np.random.default_rng(seed).integers(
        0, 255, (count, height, width, channels), np.uint8
    )
    root = tmp_path_factory.mktemp("pictures")
    order = np.random.default_rng(seed + 1).permutation(count)  # of writing
    for number in order:
        write_exact(root / f"{number:03d}.png", images[number])
    back, labels = whole(load(str(root)))
    assert np.array_equal(back, images) and (labels == -1).all()


def write_exact(path, array):
    mode = pictures.MODES[array.shape[2]]
    Image.frombytes(mode, array.shape[1::-1], array.tobytes()).save(path)


def test_class_folders(tmp_path, capsys):
    images = write_classes(tmp_path)
    data = load(tmp_path.as_posix())
    assert capsys.readouterr().err == (f"{tmp_path}: 30 images of 3 classes (blue, green, red)\n")
    back, labels = whole(data)
    assert np.array_equal(back, images) and np.array_equal(labels, np.repeat([0, 1, 2], 10))
    assert data.num_classes == 3 and data.name == str(tmp_path)
    counts = [len(part) for part in (data.train, data.val, data.test)]
    assert sum(counts) == 30 and min(counts) > 0
    assert len(set(load(str(tmp_path), images=12).train.labels)) == 3  # no class comes first
    again = load(str(tmp_path), val_fraction=0.5)
    assert tfds.same(data.test, again.test) and data.fingerprint == again.fingerprint


def test_the_order_is_not_the_file_systems(tmp_path, monkeypatch):
    write_classes(tmp_path)
    first, listed = load(str(tmp_path)), Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: sorted(listed(path), reverse=True))
    again = load(str(tmp_path))
    assert first.fingerprint == again.fingerprint and tfds.same(first.val, again.val)


def test_splits_made_by_hand_stay(tmp_path):
    for part, count in (("train", 6), ("valid", 2), ("test", 3)):
        write_classes(tmp_path / part, count)
    data = load(str(tmp_path), val_fraction=0.5)
    assert [len(part) for part in (data.train, data.val, data.test)] == [18, 6, 9]
    assert np.array_equal(np.sort(data.train.ids), np.arange(18))
    assert np.array_equal(np.sort(data.val.ids), 18 + np.arange(6))
    assert np.array_equal(np.sort(data.test.ids), np.arange(9))
    assert data.num_classes == 3 and set(data.test.labels) == {0, 1, 2}
    (tmp_path / "valid").rename(tmp_path / "away")
    assert "look like splits" in fault(str(tmp_path))  # not classes away, test and train
    (tmp_path / "away").rename(tmp_path.parent / "away")
    data = load(str(tmp_path))
    assert [len(part) for part in (data.train, data.val, data.test)] == [16, 2, 9]


@pytest.mark.parametrize("train, test", [("Train", "Test"), ("training", "testing")])
def test_splits_of_other_spellings_are_no_classes(tmp_path, train, test):
    write_classes(tmp_path / train)
    write_classes(tmp_path / test, 2)
    data = load(str(tmp_path))
    assert data.num_classes == 3 and len(data.test) == 6


@pytest.mark.parametrize("others", [["train", "test", "more"], ["val", "test"]])
def test_splits_beside_other_folders_are_refused(tmp_path, others):
    for name in others:
        write_classes(tmp_path / name, 1)
    assert "look like splits" in fault(str(tmp_path))


def test_a_split_among_classes_is_refused(tmp_path):
    """Its images would be trained on, as a class "test"."""
    write_classes(tmp_path, 1)
    write_classes(tmp_path / "test", 1)
    assert "look like splits" in fault(str(tmp_path))


def test_a_class_may_be_called_train(tmp_path):
    write_classes(tmp_path / "vehicles", 1)
    (tmp_path / "vehicles" / "red").rename(tmp_path / "vehicles" / "train")
    assert load(str(tmp_path / "vehicles")).num_classes == 3


def test_every_mode_is_as_a_viewer_shows_it(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    colour = np.stack([grey, 2 * grey, 255 - grey], -1)
    samples = {
        "L": (Image.fromarray(grey), grey[..., None]),
        "1": (Image.fromarray(grey > 20), 255 * (grey > 20)[..., None].astype(np.uint8)),
        "I;16": (Image.fromarray(grey.astype(np.uint16) * 257), grey[..., None]),
        "RGB": (Image.fromarray(colour), colour),
        "P": (Image.fromarray(colour).quantize(256), None),
    }
    for mode, (image, expected) in samples.items():
        path = tmp_path / f"{mode.replace(';', '')}.png"
        image.save(path)
        height, width, channels = pictures.describe(path)
        back = pictures.read(path, channels)
        assert back.shape == (height, width, channels) == (8, 8, 3 if mode in ("RGB", "P") else 1)
        if expected is not None:
            assert np.array_equal(back, expected), mode
    assert np.array_equal(pictures.read(tmp_path / "L.png", 3), grey[..., None].repeat(3, -1))
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    error = pictures.read(tmp_path / "cmyk.jpg", 3).astype(int) - colour
    assert np.abs(error).mean() < 4
    clear = np.dstack([colour, np.where(grey > 30, 255, 0)]).astype(np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert pictures.describe(tmp_path / "clear.png")[2] == 4
    assert np.array_equal(pictures.read(tmp_path / "clear.png", 4), clear)
    white = np.where(clear[..., 3:] == 255, colour, 255)
    assert np.array_equal(pictures.read(tmp_path / "clear.png", 3), white)
    assert load(str(tmp_path)).train.images.shape[3] == 3  # colours without alpha in all


def test_sixteen_bits_are_rounded(tmp_path):
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    back = load(str(tmp_path)).train.images[0, ..., 0]
    assert np.array_equal(back, np.rint(levels / 257))


def test_alpha_that_hides_nothing_goes(tmp_path):
    write(tmp_path / "a.png", np.full((4, 4, 4), 255, np.uint8))
    assert load(str(tmp_path)).train.images.shape == (1, 4, 4, 3)


@pytest.mark.parametrize("orientation, turns", [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_turns(tmp_path, orientation, turns):
    image = np.zeros((8, 16, 3), np.uint8)
    image[:4, :8] = 255
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    write(tmp_path / "a.png", image, exif=exif)
    assert np.array_equal(load(str(tmp_path)).train.images[0], np.rot90(image, turns))


def test_resolution_crops_the_centre_and_resizes_without_aliasing(tmp_path):
    stripes = np.zeros((64, 96), np.uint8)
    stripes[:, ::2] = 255
    write(tmp_path / "wide.png", stripes)
    write(tmp_path / "tall.PNG", stripes.T.copy())
    message = fault(str(tmp_path))
    assert "64x96" in message and "96x64" in message and "--resolution" in message
    images = load(str(tmp_path), resolution=16).train.images
    assert images.shape == (2, 16, 16, 1)
    assert np.abs(images[:, 2:-2, 2:-2].astype(int) - 127).max() <= 2  # the mean, no stripes
    marked = np.zeros((64, 96), np.uint8)
    marked[:, 16:80] = 200
    write(tmp_path / "wide.png", marked)
    assert (load(str(tmp_path), resolution=16).train.images[1] == 200).all()  # by name: tall, wide
    (tmp_path / "wide.png").unlink()
    assert load(str(tmp_path), resolution=64).train.images.shape == (1, 64, 64, 1)


def test_a_jpeg_reduced_as_it_is_decoded_is_the_same_picture(tmp_path):
    smooth = np.add.outer(np.linspace(0, 120, 256), np.linspace(0, 120, 256)).astype(np.uint8)
    write(tmp_path / "a.jpg", smooth, quality=95)
    small = load(str(tmp_path), resolution=16).train.images
    means = reduce_blocks(smooth[None, ..., None], 16)
    assert np.abs(small.astype(int) - means)[:, 1:-1, 1:-1].max() <= 2


def test_one_image_file_and_one_image_a_class(tmp_path):
    images = write_classes(tmp_path, 1)
    one = load(str(tmp_path / "red" / "00.png"))
    assert np.array_equal(one.train.images, images[2:]) and not len(one.val) + len(one.test)
    few = load(str(tmp_path))
    assert len(few.train) == 3 and few.num_classes == 3 and not len(few.test)


def test_paths_of_all_kinds(tmp_path, monkeypatch):
    images = write_classes(tmp_path / "Bücher, 写真" / "x.y", 2)
    monkeypatch.chdir(tmp_path)
    for name in (
        "Bücher, 写真/x.y",
        "./Bücher, 写真/x.y",
        f"{tmp_path}/Bücher, 写真/../Bücher, 写真/x.y",
    ):
        data = load(name)
        assert np.array_equal(whole(data)[0], images)
        assert data.name == str(tmp_path / "Bücher, 写真" / "x.y")
    (tmp_path / "Bücher, 写真").rename(tmp_path / "moved")  # found again in --data-dir
    moved = load(data.name, tmp_path / "moved")
    assert moved.fingerprint == data.fingerprint and moved.name == str(tmp_path / "moved" / "x.y")


# ---- what is passed over, and what is wrong ----


def test_what_is_no_image_is_counted_and_what_is_hidden_is_not(tmp_path, capsys):
    write_classes(tmp_path, 1)
    for name in (".DS_Store", "red/._00.png", "notes.txt", "red/Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "red" / "pipe.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "red" / "loop").symlink_to(tmp_path)
    (tmp_path / "blue" / "red").symlink_to(tmp_path / "red")
    (tmp_path / "red" / "blue").symlink_to(tmp_path / "blue")
    data = load(str(tmp_path))
    assert data.num_classes == 3
    assert "of 3 classes" in (said := capsys.readouterr().err) and "other files ignored" in said


@pytest.mark.parametrize(
    "content, why",
    [(b"", "no PNG"), (b"junk", "no PNG"), (None, "No such file"), ("cut", "truncated")],
)
def test_damaged_files_are_named_and_left_out_only_if_asked(tmp_path, capsys, content, why):
    images = write_classes(tmp_path)
    bad = tmp_path / "green" / "03.png"
    if content == "cut":
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        write(bad, noise)
        bad.write_bytes(bad.read_bytes()[:-60])
    elif content is None:
        bad.unlink()
        bad.symlink_to(tmp_path / "nowhere")
    else:
        bad.write_bytes(content)
    message = fault(str(tmp_path))
    assert "1 damaged of 30 images: green/03.png" in message and why in message
    assert "--skip-damaged" in message
    capsys.readouterr()
    data = load(str(tmp_path), skip_damaged=True)
    assert "left out, damaged: 1: green/03.png" in capsys.readouterr().err
    ids = np.concatenate([part.ids for part in (data.train, data.val, data.test)])
    assert np.array_equal(np.sort(ids), np.delete(np.arange(30), 13))
    assert np.array_equal(data.train.images, images[data.train.ids])


def test_links_in_a_circle_are_damaged_files(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "green" / "circle.png").symlink_to("circle.png")
    assert "1 damaged of 31 images: green/circle.png" in fault(str(tmp_path))
    assert load(str(tmp_path), skip_damaged=True).num_classes == 3


@pytest.mark.parametrize("name", ["circle", "nul\0byte"])
def test_paths_that_are_none(tmp_path, name):
    (tmp_path / "circle").symlink_to("circle")
    assert "is no path" in fault(str(tmp_path / name))


def test_images_too_large_for_memory_are_one_line(tmp_path):
    write_classes(tmp_path, 1)
    assert "do not fit into memory" in fault(str(tmp_path), resolution=2**31 - 1)


def test_five_damaged_files_are_named_at_most(tmp_path):
    write_classes(tmp_path, 3)
    for path in tmp_path.glob("*/*.png"):
        if path.name != "02.png":
            path.write_bytes(b"")
    message = fault(str(tmp_path))
    assert "6 damaged of 9" in message and message.count(".png") == 5
    for path in tmp_path.glob("*/02.png"):
        path.write_bytes(b"")
    assert "none of its images can be read" in fault(str(tmp_path), skip_damaged=True)


def test_an_image_beyond_pillows_limit(tmp_path, monkeypatch, recwarn):
    write_classes(tmp_path, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # warns from here on, refuses twice as many
    assert len(load(str(tmp_path)).train) == 3 and not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    assert "exceeds limit" in fault(str(tmp_path))


def test_folders_that_are_none(tmp_path):
    assert "holds no images" in fault(str(tmp_path))
    (tmp_path / "a.tiff").write_bytes(b"")
    assert "only 1 other file" in fault(str(tmp_path))
    assert "is no folder, image" in fault(str(tmp_path / "a.tiff"))
    write_classes(tmp_path, 1)
    write(tmp_path / "b.png", np.zeros((8, 8, 3), np.uint8))
    assert f"{tmp_path / 'b.png'} lies beside class folders" in fault(str(tmp_path))
    prepared = tfds.write_small(tmp_path / "sets")
    message = fault(str(prepared))
    assert "--dataset small" in message and f"--data-dir {tmp_path / 'sets'}" in message


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    write_classes(tmp_path, 1)

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pictures, "describe", closed)
    assert fault(str(tmp_path)).endswith("blue/00.png cannot be read: Permission denied")


def test_decoded_pixels_are_kept_and_changed_files_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folder, "KEEP_FROM", 1)
    root = tmp_path / "own"
    write_classes(root)
    first = load(str(root))
    decoded = []
    monkeypatch.setattr(folder, "_read_all", lambda *args: decoded.append(args))
    again = load(str(root))
    assert not decoded and again.fingerprint == first.fingerprint
    assert tfds.same(again.train, first.train) and again.num_classes == 3
    write(root / "red" / "00.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(TypeError):
        load(str(root))
    assert len(decoded) == 1
