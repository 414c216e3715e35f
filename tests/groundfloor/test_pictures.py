"""pictures: every kind of picture in the channels that its set declares."""

import io

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from groundfloor.data import pictures
from groundfloor.data.datasets import load
from groundfloor.errors import UserError
from tests import tfds

COLOURS = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def random(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def palette(rows):
    image = Image.fromarray(rows.astype(np.uint8), "L").convert("L")
    image = Image.frombytes("P", image.size, rows.astype(np.uint8).tobytes())
    image.putpalette(COLOURS.ravel().tolist())
    return image


def luma(colours):
    """Grey of colours (..., 3) by ITU-R 601-2, which Pillow rounds."""
    return colours.astype(float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, None])
@pytest.mark.parametrize("own", [1, 2, 3, 4])
def test_channels_become_those_declared(own, channels):
    array = random(5, 7, own)
    found = pictures.decode(tfds.png(array.squeeze()), channels)
    alpha = array[..., -1:] if own in (2, 4) else np.full((5, 7, 1), 255, np.uint8)
    grey_or_colours = array[..., :1] if own < 3 else array[..., :3]
    assert found.dtype == np.uint8 and found.shape == (5, 7, channels or own)
    if channels in (2, 4) or (channels is None and own in (2, 4)):
        assert np.array_equal(found[..., -1:], alpha)
        found = found[..., :-1]
    if found.shape[2] == 1 and own > 2:
        assert np.abs(found[..., 0] - luma(grey_or_colours)).max() <= 1
    else:
        assert np.array_equal(found, np.broadcast_to(grey_or_colours, found.shape))


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_palettes_are_looked_up(form):
    rows = random(5, 7) % 2
    content = encoded(palette(rows), form)
    for channels in (3, None):
        assert np.array_equal(pictures.decode(content, channels), COLOURS[rows])
    assert np.abs(pictures.decode(content, 1)[..., 0] - luma(COLOURS[rows])).max() <= 1


def test_transparency_in_a_palette():
    rows = random(5, 7) % 2
    content = encoded(palette(rows), transparency=1)
    for channels in (4, None):
        found = pictures.decode(content, channels)
        assert np.array_equal(found[..., :3], COLOURS[rows])
        assert np.array_equal(found[..., 3], 255 * (1 - rows))
    assert np.array_equal(pictures.decode(content, 3), COLOURS[rows])


def test_black_and_white():
    bits = random(5, 7) % 2
    content = encoded(Image.fromarray(bits * 255).convert("1"))
    for channels in (1, None, 3):
        found = pictures.decode(content, channels)
        assert np.array_equal(found, np.broadcast_to(255 * bits[..., None], found.shape))


def test_jpeg_in_four_inks_and_in_grey():
    flat = np.full((8, 8, 3), [200, 100, 50], np.uint8)
    inks = encoded(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=95)
    found = pictures.decode(inks)
    assert found.shape == flat.shape and np.abs(found - flat.astype(float)).max() <= 4
    grey = pictures.decode(encoded(Image.fromarray(flat[..., 0]), "JPEG", quality=95), 3)
    assert np.abs(grey - 200.0).max() <= 2 and grey.shape == flat.shape


def test_orientation_is_left_as_stored():
    image, exif = Image.fromarray(random(5, 7, 3)), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert pictures.decode(encoded(image, "JPEG", exif=exif)).shape == (5, 7, 3)
    assert pictures.decode(encoded(image, exif=exif)).shape == (5, 7, 3)


def sixteen_bits(colour_type, channels):
    """A PNG of one pixel with 16 bits a channel, which Pillow cannot write in colour."""
    import struct
    import zlib

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"\0" + b"\x12\x34" * channels)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("colour_type, channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_refused(colour_type, channels, tmp_path):
    content = sixteen_bits(colour_type, channels)
    assert Image.open(io.BytesIO(content)).size == (1, 1)
    with pytest.raises(UserError, match="16 bits a channel; 8-bit images are needed"):
        pictures.decode(content, channels)
    tfds.write_tfds(tmp_path, "deep", {"train": [{"image": content}] * 9}, shape=(1, 1, channels))
    message = tfds.fault("deep", tmp_path)
    assert "row 0 of the split has 16 bits" in message and "delete" not in message


def test_what_is_no_picture():
    with pytest.raises(UnidentifiedImageError):
        pictures.decode(b"junk")
    with pytest.raises(OSError):
        pictures.decode(encoded(Image.fromarray(random(64, 64, 3)))[:-60])


# ---- in data sets ----


def test_palettes_in_a_set_become_its_colours(tmp_path):
    rows = [{"image": encoded(palette(np.full((8, 8), i % 2))), "label": i % 2} for i in range(40)]
    tfds.write_tfds(tmp_path, "flags", {"train": rows, "test": rows}, num_classes=2)
    test = load("flags", tmp_path).test
    assert test.images.shape == (40, 8, 8, 3)
    assert (test.images == COLOURS[test.labels][:, None, None]).all()


def test_grey_pictures_in_a_set_fill_its_colours(tmp_path):
    grey, coloured = tfds.pictures(20, channels=1), tfds.pictures(20, seed=1)
    tfds.write_tfds(tmp_path, "mixed", {"train": tfds.rows_of(coloured) + tfds.rows_of(grey)})
    found = load("mixed", tmp_path, val_fraction=0).train.images
    assert np.array_equal(found, np.concatenate([coloured, grey.repeat(3, 3)])[:36])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_as_tfds_reads_them(tmp_path, channels):
    """Where its own decoder without TensorFlow is right: pictures of the declared channels."""
    import tensorflow_datasets

    images = tfds.pictures(20, channels=channels)
    rows, shape = tfds.rows_of(images), (8, 8, channels)
    folder = tfds.write_tfds(tmp_path, "small", {"train": rows, "test": rows}, shape=shape)
    source = tensorflow_datasets.builder_from_directory(folder).as_data_source("test")
    found = load("small", tmp_path).test.images
    assert all(np.array_equal(found[i], source[i]["image"]) for i in range(20))
    assert np.array_equal(found, images)
