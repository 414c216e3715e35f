"""Functa: encoding, decoding, and what users give it."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from functa_jax.functa import Functa
from functa_jax.model import siren
from functa_jax.training.inner_loop import fit
from tests.functa_jax.functas import CONFIG, FUNCTA, HEIGHT, LATENTS, PARAMS, WIDTH, fault

IMAGES = np.random.default_rng(0).integers(0, 256, (7, HEIGHT, WIDTH, 1), np.uint8)


# ---- encoding ----


def test_course_is_the_inner_loop_of_every_image():
    @jax.jit
    def reference(image):
        model = siren.with_params(CONFIG, PARAMS)
        fits = [fit(model, siren.coordinate_grid(HEIGHT, WIDTH), image, k) for k in range(5)]
        return [latent for latent, _ in fits], fits[-1][1]

    latents, errors = FUNCTA.course(IMAGES)
    assert latents.shape == (7, 4, 4) and errors.shape == (7, 4)
    assert latents.dtype == errors.dtype == np.float32
    assert np.abs(latents[:, -1]).max() > 0.1
    for image, course, course_errors in zip(IMAGES, latents, errors, strict=True):
        expected, expected_errors = reference(image.reshape(-1, 1) / np.float32(255))
        np.testing.assert_allclose(course, expected[:4], atol=1e-6)
        np.testing.assert_allclose(course_errors, expected_errors, rtol=1e-5)


def test_encode_is_the_end_of_the_course():
    latents, errors = FUNCTA.course(IMAGES)
    end, psnr = FUNCTA.encode(IMAGES)
    assert end.dtype == psnr.dtype == np.float32
    np.testing.assert_array_equal(end, latents[:, -1])
    np.testing.assert_allclose(psnr, -10 * np.log10(errors[:, -1]), rtol=1e-6)


def test_fewer_steps_are_the_head_of_the_course():
    latents, errors = FUNCTA.course(IMAGES[:4])
    head, head_errors = FUNCTA.course(IMAGES[:4], steps=1)
    np.testing.assert_allclose(head, latents[:, :2], atol=1e-6)
    np.testing.assert_allclose(head_errors, errors[:, :2], rtol=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_bytes_and_floats_are_the_same_images(kind):
    for from_bytes, from_floats in zip(
        FUNCTA.encode(IMAGES), FUNCTA.encode(IMAGES / kind(255)), strict=True
    ):
        np.testing.assert_allclose(from_bytes, from_floats, atol=1e-5)


def test_one_channel_may_be_left_out():
    for with_channel, without in zip(
        FUNCTA.encode(IMAGES), FUNCTA.encode(IMAGES[..., 0]), strict=True
    ):
        np.testing.assert_array_equal(with_channel, without)


@given(rows=st.lists(st.integers(0, 6), min_size=1, max_size=8), batch_size=st.integers(1, 20))
def test_a_latent_depends_on_its_image_alone(rows, batch_size):
    latents, psnr = FUNCTA.encode(IMAGES)
    some, some_psnr = FUNCTA.encode(IMAGES[rows], batch_size=batch_size)
    np.testing.assert_allclose(some, latents[rows], atol=1e-6)
    np.testing.assert_allclose(some_psnr, psnr[rows], atol=1e-4)


def test_no_images_give_no_latents():
    latents, errors = FUNCTA.course(IMAGES[:0])
    assert latents.shape == (0, 4, 4) and errors.shape == (0, 4)
    latents, psnr = FUNCTA.encode(IMAGES[:0])
    assert latents.shape == (0, 4) and psnr.shape == (0,)
    assert latents.dtype == psnr.dtype == np.float32
    assert FUNCTA.decode(latents).shape == (0, HEIGHT, WIDTH, 1)


def test_integers_other_than_bytes_are_refused():
    integers = IMAGES.astype(np.int64)
    assert "images are int64; give uint8, or floats" in fault(FUNCTA.encode, integers)


@pytest.mark.parametrize(
    "shape", [(2, 6, 4, 1), (2, 4, 6, 3), (2, 5, 6), (4, 6, 1), (4, 6), (2, 24)], ids=str
)
def test_images_of_another_size_are_refused(shape):
    assert "(4, 6, 1)" in fault(FUNCTA.encode, np.zeros(shape, np.uint8))


def test_channels_are_needed_when_there_are_several():
    config = replace(CONFIG, channels=3)
    functa = Functa(config, siren.init(config, 0), (4, 6))
    assert "(4, 6, 3)" in fault(functa.encode, np.zeros((3, 4, 6), np.uint8))


# ---- decoding ----


def colours(latent, points, params=PARAMS):
    """The modulated SIREN written out in NumPy, at points (M, 2): float64 (M, C)."""
    *hidden, last = (params["siren"]["layers"][i] for i in range(CONFIG.depth))
    shifts = latent @ params["latent_map"]["kernel"] + params["latent_map"]["bias"]
    h = np.asarray(points, np.float64)
    for layer, shift in zip(hidden, shifts.reshape(CONFIG.depth - 1, -1), strict=True):
        h = np.sin(CONFIG.w0 * (h @ layer["kernel"] + layer["bias"] + shift))
    return h @ last["kernel"] + last["bias"] + 0.5


def test_decode_is_the_siren_at_pixel_centres():
    images = FUNCTA.decode(LATENTS)
    assert images.dtype == np.float32
    for image, latent in zip(images, LATENTS, strict=True):
        for i in range(HEIGHT):
            for j in range(WIDTH):
                centre = [[(i + 0.5) / HEIGHT, (j + 0.5) / WIDTH]]
                np.testing.assert_allclose(image[i, j], colours(latent, centre)[0], atol=1e-5)


@pytest.mark.parametrize("resolution", [(4, 6), (3, 8), 5])
def test_decode_at_a_resolution_is_decode_on_its_grid(resolution):
    sides = (5, 5) if resolution == 5 else resolution
    images = FUNCTA.decode(LATENTS, resolution)
    points = FUNCTA.decode(LATENTS, coords=siren.coordinate_grid(*sides))
    assert points.shape == (5, sides[0] * sides[1], 1)
    np.testing.assert_allclose(images, points.reshape(5, *sides, 1), atol=1e-6)


def test_decode_at_free_points():
    points = np.random.default_rng(2).random((11, 2))
    expected = [colours(latent, points) for latent in LATENTS]
    np.testing.assert_allclose(FUNCTA.decode(LATENTS, coords=points), expected, atol=1e-5)


@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=8), batch_size=st.integers(1, 20))
def test_an_image_depends_on_its_latent_alone(rows, batch_size):
    some = FUNCTA.decode(LATENTS[rows], batch_size=batch_size)
    np.testing.assert_allclose(some, FUNCTA.decode(LATENTS)[rows], atol=1e-6)


@pytest.mark.parametrize("fit_points", [None, 5])
def test_decoded_images_have_the_psnr_that_encode_reports(fit_points):
    latents, psnr = replace(FUNCTA, fit_points=fit_points).encode(IMAGES)
    errors = ((FUNCTA.decode(latents) - IMAGES / 255) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(-10 * np.log10(errors), psnr, atol=1e-4)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 4, 1)], ids=str)
def test_latents_of_another_size_are_refused(shape):
    assert "(n, 4)" in fault(FUNCTA.decode, np.zeros(shape))


# ---- what comes from users ----


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(16, "0.5 to 16"), (-3.5, "-3.5 to 0.5"), (np.nan, "not finite"), (np.inf, "not finite")],
)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_of_other_units_are_refused_with_their_range(wrong, said, kind):
    images = np.full(IMAGES.shape, 0.5, kind)
    images[3, 1, 0, 0] = wrong
    for function in (FUNCTA.encode, FUNCTA.course):
        message = fault(function, images)
        assert said in message and "give uint8, or floats in [0, 1]" in message


def test_digits_as_scikit_learn_gives_them_are_refused():
    config = replace(CONFIG, latent_dim=2)
    functa = Functa(config, siren.init(config, 0), (8, 8))
    assert "0 to 16" in fault(functa.encode, load_digits().images[:3])
    assert functa.encode(load_digits().images[:3] / 16)[0].shape == (3, 2)


def test_noise_may_leave_the_range():
    noisy = np.float32(IMAGES / 255 + 0.4 * np.sin(np.arange(IMAGES.size)).reshape(IMAGES.shape))
    assert noisy.min() < 0 and noisy.max() > 1
    assert np.isfinite(FUNCTA.encode(noisy)[1]).all()


@pytest.mark.parametrize("coords", [np.zeros((4, 3)), np.zeros(2), np.zeros((1, 4, 2)), [], 0.5])
def test_points_of_another_shape_are_refused(coords):
    assert "not (M, 2), in [0, 1]^2" in fault(FUNCTA.decode, LATENTS, coords=coords)


@pytest.mark.parametrize("outside", [-1.0, -0.01, 1.01, 3.0, np.nan, np.inf])
def test_points_outside_are_refused(outside):
    coords = [[0.5, 0.5], [0.2, outside]]
    assert "points lie in [0, 1]^2" in fault(FUNCTA.decode, LATENTS, coords=coords)


def test_no_points_have_no_colours():
    assert FUNCTA.decode(LATENTS, coords=np.zeros((0, 2))).shape == (5, 0, 1)
    assert FUNCTA.decode(LATENTS, coords=[[0, 0], [1, 1]]).shape == (5, 2, 1)


@pytest.mark.parametrize("resolution", [16.0, 0, -1, (4, 0), (4, 6.0), (1, 2, 3), np.nan, "8"])
def test_impossible_resolutions_are_refused(resolution):
    assert "resolution" in fault(FUNCTA.decode, LATENTS, resolution)


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_impossible_batch_sizes_and_steps_are_refused(size):
    assert f"batch_size {size}: must be" in fault(FUNCTA.encode, IMAGES, batch_size=size)
    assert f"batch_size {size}: must be" in fault(FUNCTA.decode, LATENTS, batch_size=size)
    if size:
        assert f"steps {size}: must be" in fault(FUNCTA.encode, IMAGES, steps=size)
