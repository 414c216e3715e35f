"""Rate and distortion: bytes of JPEG and WebP without headers, PSNR, where a network pays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.tasks.compression import curves

RANDOM = np.random.default_rng(0)


def pictures(n, side, channels):
    """Smooth colours and a little noise, uint8."""
    y, x = np.mgrid[:side, :side] / side
    phase = RANDOM.random((n, 1, 1, channels)) * 6
    waves = np.sin(5 * x[..., None] + 3 * y[..., None] + phase) * 100 + 128
    return (waves + RANDOM.normal(size=waves.shape)).clip(0, 255).astype(np.uint8)


def methods(channels):
    return [method for method, held in curves.CHANNELS.items() if channels in held]


@pytest.mark.parametrize("method, channels", [("JPEG 4:2:0", 3), ("JPEG 4:4:4", 1)])
def test_headers_of_jpeg_are_the_same_in_all_files(method, channels):
    for quality in (10, 75):
        heads = set()
        for image in pictures(3, 16, channels):
            data = curves.one_file(method, image, quality)
            length = curves.jpeg_scan_bytes(data)
            heads.add(data[: len(data) - length - 2])
            assert data[-2:] == b"\xff\xd9" and length > 0
            assert len(curves.one_file(method, image, quality, optimize=True)) <= len(data)
            assert curves.decoded(data, image).shape == image.shape
        assert len(heads) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_headers_of_jpeg_2000_are_the_same_but_for_the_length_of_the_tile(channels):
    heads = set()
    for image in pictures(3, 16, channels):
        data = curves.one_file("JPEG 2000", image, 30)
        length = curves.jpeg2000_stream_bytes(data)
        head = data[: len(data) - length - 2]
        tile = head.rindex(b"\xff\x90")  # start of the tile, whose length is told 6 bytes later
        heads.add(head[: tile + 6] + head[tile + 10 :])
        assert head[-2:] == b"\xff\x93" and data[-2:] == b"\xff\xd9"
        assert int.from_bytes(head[tile + 6 : tile + 10], "big") == len(data) - tile - 2
    assert len(heads) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_more_quality_takes_more_bytes_and_gains_decibels(channels):
    images = pictures(4, 16, channels)
    for method in methods(channels):
        ends = [curves.QUALITIES[method][place] for place in (0, -1)]
        low, high = (curves.standard(method, end, images, np.array([0, 2])) for end in ends)
        for name in ("bare", "whole", "psnr"):
            assert getattr(low, name) < getattr(high, name)
        assert 0 < low.bare < low.whole and 0 < high.bare < high.whole
        assert high.psnr > 25 and low.pictures.shape == (2, 16, 16, channels)


def test_webp_header_is_what_two_files_share():
    images = [np.full((16, 16, 1), level, np.uint8) for level in (0, 255)]
    files = [curves.one_file("WebP", image, 50) for image in images]
    for data in files:
        assert data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 "
        assert data[23:26] == b"\x9d\x01\x2a"  # start code of a key frame (RFC 6386, 9.1)
    assert files[0][23:30] == files[1][23:30]  # with 16 x 16 after it


def test_alpha_is_kept_whole_and_counted():
    images = pictures(3, 16, 4)
    images[0, ..., 3] = 255  # opaque: WebP then leaves alpha out
    images[1, :8, :, 3] = 0
    for number, image in enumerate(images):
        data = curves.one_file("WebP", image, 100)
        decoded = curves.decoded(data, image)
        np.testing.assert_array_equal(decoded[..., 3], image[..., 3])  # WebP's alpha is lossless
        headers = 12 + 8 + 10 if number == 0 else 12 + 18 + 8 + 8 + 10  # with VP8X and ALPH
        assert curves.webp_data_bytes(data) == len(data) - headers
        assert curves.mean_psnr(decoded[None], image[None]) > 25


def test_psnr_in_closed_form():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    other = images.copy()
    other[0] += 51  # a fifth: 20 log10(5) dB
    floor = 10 * np.log10(12 * 255**2)
    assert curves.mean_psnr(other, images) == pytest.approx((20 * np.log10(5) + floor) / 2)


@given(st.integers(0, 10**6), st.integers(1, 500), st.integers(1, 500))
def test_from_how_many_images_on_a_network_pays(shared, ours, theirs):
    found = curves.pays_from(shared, ours, theirs)
    if theirs <= ours:
        assert found is None
    else:
        assert shared + found * ours < found * theirs
        assert shared + (found - 1) * ours >= (found - 1) * theirs


def test_bytes_between_points():
    curve = [
        curves.Point("", "", size, 10 * size, psnr, None, 0, 0) for size, psnr in ((9, 30), (5, 20))
    ]
    assert curves.bytes_at(curve, 25, "bare") == 7 and curves.bytes_at(curve, 20, "whole") == 50
    assert curves.bytes_at(curve, 31, "bare") is curves.bytes_at(curve, 19, "bare") is None
