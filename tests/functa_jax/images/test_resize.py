"""Area means against whole-number blocks, and splines that keep the pixel grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax.images import resize

RNG = np.random.default_rng(0)
sides = st.integers(1, 12)


@settings(max_examples=30)
@given(old=st.tuples(sides, sides), new=st.tuples(sides, sides))
def test_area_means_are_block_means_of_a_common_multiple(old, new):
    images = RNG.random((2, *old, 3))
    fine = images.repeat(new[0], axis=1).repeat(new[1], axis=2)
    blocks = fine.reshape(2, new[0], old[0], new[1], old[1], 3).mean(axis=(2, 4))
    reduced = resize.reduce(images, *new)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced, blocks, atol=1e-6)
    np.testing.assert_allclose(
        reduced.mean(axis=(1, 2), dtype=np.float64), images.mean(axis=(1, 2)), atol=1e-6
    )


def test_the_same_size_changes_nothing():
    images = RNG.random((1, 5, 7, 1), np.float32)
    np.testing.assert_allclose(resize.reduce(images, 5, 7), images, atol=1e-7)


def test_shorter_side_keeps_the_proportions():
    photos = np.empty((1, 427, 640, 3), np.uint8)
    assert resize.shorter_side(photos, 64) == (64, 96)
    assert resize.shorter_side(photos, 427) == (427, 640)
    assert resize.shorter_side(photos.transpose(0, 2, 1, 3), 128) == (192, 128)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_splines_keep_the_grid(factor):
    images = RNG.random((2, 6, 9, 3))
    large = resize.enlarge(images, factor)
    assert large.shape == (2, 6 * factor, 9 * factor, 3)
    # A pixel is a square: mirror images enlarge to mirror images, in both directions.
    np.testing.assert_allclose(resize.enlarge(images[:, ::-1], factor), large[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(
        resize.enlarge(images[:, :, ::-1], factor), large[:, :, ::-1], atol=1e-6
    )
    np.testing.assert_allclose(resize.enlarge(np.ones((1, 4, 4, 1)), factor), 1, atol=1e-4)


def test_splines_follow_a_smooth_wave():
    def wave(side):
        x = (np.arange(side) + 0.5) / side
        return np.cos(np.pi * x)[None, :, None, None] * np.cos(2 * np.pi * x)[None, None, :, None]

    np.testing.assert_allclose(resize.enlarge(wave(16), 4), wave(64), atol=2e-3)
