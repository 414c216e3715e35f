"""Rate and distortion: bytes of JPEG and WebP without headers, PSNR, where a network pays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from functa_jax.tasks.compression import curves

RANDOM = np.random.default_rng(0)


def pictures(n, side, channels):
    """Smooth colours and a little noise, uint8."""
    y, x = np.mgrid[:side, :side] / side
    phase = RANDOM.random((n, 1, 1, channels)) * 6
    waves = np.sin(5 * x[..., None] + 3 * y[..., None] + phase) * 100 + 128
    return (waves + RANDOM.normal(size=waves.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_headers_of_jpeg_are_the_same_in_all_files(channels):
    images = pictures(3, 16, channels)
    for quality in (10, 75):
        heads = set()
        for image in images:
            picture = Image.fromarray(image.squeeze())
            data = curves._saved(picture, "JPEG", quality=quality)
            length = curves.jpeg_scan_bytes(data)
            heads.add(data[: len(data) - length - 2])
            bare, whole, decoded = curves.one_file("JPEG", image, quality)
            assert bare == length > 0 and whole <= len(data) and decoded.shape == image.shape
        assert len(heads) == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", curves.QUALITIES)
def test_more_quality_takes_more_bytes_and_gains_decibels(method, channels):
    curve = curves.standard(method, pictures(4, 16, channels), np.array([0, 2]))
    for name in ("bare", "whole", "psnr"):
        assert getattr(curve[0], name) < getattr(curve[-1], name)
    assert all(0 < point.bare < point.whole for point in curve)
    assert curve[-1].psnr > 25 and curve[0].pictures.shape == (2, 16, 16, channels)


def test_webp_header_is_what_two_files_share():
    images = [np.full((16, 16, 1), level, np.uint8) for level in (0, 255)]
    files = [
        curves._saved(Image.fromarray(i.squeeze()).convert("RGB"), "WEBP", quality=50)
        for i in images
    ]
    for data in files:
        assert data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 "
        assert data[23:26] == b"\x9d\x01\x2a"  # start code of a key frame (RFC 6386, 9.1)
    assert files[0][23:30] == files[1][23:30]  # with 16 x 16 after it


def test_alpha_is_kept_whole_and_counted():
    images = pictures(3, 16, 4)
    images[0, ..., 3] = 255  # opaque: WebP then leaves alpha out
    images[1, :8, :, 3] = 0
    for number, image in enumerate(images):
        bare, whole, decoded = curves.one_file("WebP", image, 100)
        np.testing.assert_array_equal(decoded[..., 3], image[..., 3])  # WebP's alpha is lossless
        data = curves._saved(Image.fromarray(image), "WEBP", quality=100, method=6, exact=True)
        headers = 12 + 8 + 10 if number == 0 else 12 + 18 + 8 + 8 + 10  # with VP8X and ALPH
        assert bare == whole - headers == curves.webp_data_bytes(data)
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
    curve = [curves.Point("", "", size, 10 * size, psnr, None) for size, psnr in ((9, 30), (5, 20))]
    assert curves.bytes_at(curve, 25, "bare") == 7 and curves.bytes_at(curve, 20, "whole") == 50
    assert curves.bytes_at(curve, 31, "bare") is curves.bytes_at(curve, 19, "bare") is None
