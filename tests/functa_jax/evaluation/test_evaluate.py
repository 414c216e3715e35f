"""Evaluation: averages of PSNR, PCA against its definition and kept with a run."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from functa_jax.evaluation import functions, reconstruction
from functa_jax.functa import Functa
from functa_jax.model import siren
from groundfloor.data.functions import Functions

RANDOM = np.random.default_rng(0)
SMOOTH = np.cumsum(RANDOM.normal(size=(60, 4, 6, 1)), axis=2)  # neighbours alike, as in images
IMAGES = np.clip(128 + 40 * SMOOTH, 0, 255).astype(np.uint8)
TRAIN, TEST = IMAGES[:40], IMAGES[40:]


# ---- PSNR ----


def test_mean_psnr_by_hand():
    # 0.01 and 0.0001 are 20 and 40 dB: their mean is 30, where the mean error has 23 dB.
    np.testing.assert_allclose(reconstruction.mean_psnr(np.array([1e-2, 1e-4])), 30)
    errors = np.array([[1.0, 1e-1], [1e-2, 1e-3]])
    np.testing.assert_allclose(reconstruction.mean_psnr(errors), [10, 20])


@given(arrays(np.float64, (6, 2), elements=st.floats(1e-9, 1)))
def test_mean_of_psnr_is_at_least_psnr_of_the_mean(errors):
    bound = -10 * np.log10(errors.mean(0))
    assert (reconstruction.mean_psnr(errors) >= bound - 1e-9).all()


def test_a_perfect_image_leaves_the_mean_finite():
    assert np.isfinite(reconstruction.mean_psnr(np.array([0.0, 0.01])))


def test_psnr_after_steps_is_the_mean_over_the_course():
    config = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=5.0)
    functa = Functa(config, siren.init(config, 0), (4, 6))
    psnr = reconstruction.psnr_after_steps(functa, IMAGES[:7], steps=(0, 1, 3))
    _, errors = functa.course(IMAGES[:7], steps=3)
    assert list(psnr) == [0, 1, 3]
    for step, value in psnr.items():
        np.testing.assert_allclose(value, np.mean(-10 * np.log10(errors[:, step])), rtol=1e-5)
    assert psnr[3] == pytest.approx(functa.encode(IMAGES[:7])[1].mean(), rel=1e-5)


def test_psnr_is_over_all_pixels_where_latents_are_fitted_to_some():
    config = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=5.0)
    functa = Functa(config, siren.init(config, 0), (4, 6), fit_points=5)
    (psnr,) = reconstruction.psnr_after_steps(functa, IMAGES[:7], steps=(3,)).values()
    errors = functa.decode(functa.encode(IMAGES[:7])[0]) - np.float32(IMAGES[:7]) / 255
    assert psnr == pytest.approx(np.mean(-10 * np.log10((errors**2).mean((1, 2, 3)))), rel=1e-5)


# ---- PCA ----


def test_as_rows_keeps_every_number_in_its_place():
    images = RANDOM.integers(0, 256, (3, 4, 5, 2), np.uint8)
    rows = reconstruction.pixel_rows(images)
    assert rows.dtype == np.float32 and rows.shape == (3, 40)
    for place in np.ndindex(4, 5, 2):
        at = (place[0] * 5 + place[1]) * 2 + place[2]
        np.testing.assert_allclose(rows[:, at], images[:, *place] / 255, rtol=1e-6)


@pytest.mark.parametrize("components", [1, 5, 23])
def test_pca_psnr_is_that_of_the_singular_vectors(components):
    train, test = (images.reshape(len(images), -1) / 255 for images in (TRAIN, TEST))
    centre = train.mean(0)
    axes = np.linalg.svd(train - centre)[2][:components]
    rebuilt = centre + (test - centre) @ axes.T @ axes
    expected = np.mean(-10 * np.log10(((rebuilt - test) ** 2).mean(1)))
    model = reconstruction.pca(TRAIN, components)
    assert reconstruction.pca_psnr(model, TEST) == pytest.approx(expected, abs=1e-3)


def test_pca_psnr_does_not_depend_on_pieces():
    model = reconstruction.pca(TRAIN, 3)
    many = np.concatenate([TEST] * 251)  # 5,020 images: one piece and a bit
    assert reconstruction.pca_psnr(model, many) == pytest.approx(
        reconstruction.pca_psnr(model, TEST), rel=1e-6
    )


def test_no_pca_that_would_be_a_copy():
    most = 4 * 6
    assert reconstruction.pca(TRAIN, most) is None and reconstruction.pca(TRAIN, most + 1) is None
    assert reconstruction.pca(TRAIN, most - 1).n_components_ == most - 1


def test_of_few_images_pca_has_what_they_give():
    assert reconstruction.pca(TRAIN[:10], 23).n_components_ == 9
    assert reconstruction.pca(TRAIN[:1], 23) is None


@pytest.mark.parametrize("shape", [(60, 4, 6, 1), (24, 4, 6, 1), (10, 4, 6, 1), (50, 3, 3, 3)])
def test_exact_pca_is_the_singular_value_decomposition(shape, monkeypatch):
    monkeypatch.setattr(reconstruction, "PIECE", 7)  # pieces, and a bit
    images = RANDOM.integers(0, 256, shape, np.uint8)
    rows = images.reshape(len(images), -1) / 255
    centred = rows - rows.mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    found = reconstruction.whole_pca(images)
    count = min(rows.shape)
    assert found.components_.shape == (count, rows.shape[1])
    np.testing.assert_allclose(found.mean_, rows.mean(0), rtol=1e-6)
    variances = singular**2 / (len(rows) - 1)
    np.testing.assert_allclose(found.explained_variance_, variances, atol=1e-6)
    rank = min(len(rows) - 1, rows.shape[1])
    overlap = np.abs(np.sum(found.components_ * axes, axis=1))[:rank]
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
    np.testing.assert_allclose(
        reconstruction.first_components(found, 3).transform(rows),
        found.transform(rows)[:, :3],
        atol=1e-5,
    )


def test_exact_pca_keeps_small_components_that_float32_would_lose():
    """Deviations from 1 down to 1e-6 about a mean of 1,000: all found to a few percent."""
    deviations = np.logspace(0, -6, 7)
    basis = np.linalg.qr(RANDOM.normal(size=(7, 7)))[0]
    scores = np.linalg.qr(RANDOM.normal(size=(5000, 7)) - 0)[0]
    scores -= scores.mean(0)
    rows = 1000 + scores / scores.std(0, ddof=1) * deviations @ basis
    found = reconstruction.exact_pca(rows)
    np.testing.assert_allclose(np.sqrt(found.explained_variance_), deviations, rtol=0.05)


def test_pca_is_kept_with_the_run_and_bound_to_its_images(tmp_path, monkeypatch):
    first = reconstruction.pca(TRAIN, 5, tmp_path)
    path = tmp_path / "pca.npz"
    fits, exact = [], reconstruction.exact_pca

    def counted(*args):
        fits.append(args)
        return exact(*args)

    monkeypatch.setattr(reconstruction, "exact_pca", counted)
    again = reconstruction.pca(TRAIN, 9, tmp_path)
    np.testing.assert_array_equal(again.components_[:5], first.components_)
    assert not fits
    other = TRAIN.copy()
    other[0, 0, 0, 0] ^= 1  # one bit of one pixel
    reconstruction.pca(other, 5, tmp_path)
    assert len(fits) == 1
    reconstruction.pca(TRAIN.reshape(40, 6, 4, 1), 5, tmp_path)  # the same bytes in another shape
    assert len(fits) == 2
    path.write_bytes(path.read_bytes()[:-500])
    reconstruction.pca(TRAIN, 5, tmp_path)
    assert len(fits) == 3
    np.testing.assert_array_equal(reconstruction.pca(TRAIN, 5, tmp_path).mean_, first.mean_)
    assert len(fits) == 3 and list(tmp_path.iterdir()) == [path]


def test_pca_of_equal_images_rebuilds_them():
    equal = np.repeat(TRAIN[:1], 40, axis=0)
    assert reconstruction.pca_psnr(reconstruction.pca(equal, 3), equal) > 100


# ---- other functions ----


def test_what_leaves_the_range_of_probabilities_is_clipped_for_all_methods():
    of_voxels = siren.ModelConfig(1, 4, 2, 2, inputs=1, modality="voxels")
    truth = np.array([[[1.0], [0.0]]], np.float32)
    rows = np.zeros(1, np.int64)
    split = Functions(truth, np.array([[0.25], [0.75]], np.float32), rows, rows)
    beyond = truth + np.array([[[0.5], [-0.5]]])
    within = truth + np.array([[[-0.1], [0.1]]])
    for config, expected in ((of_voxels, 100), (replace(of_voxels, modality="sound"), 6.0206)):
        functa = Functa(config, {}, None)
        assert functions.measure(functa, split, beyond)[1] >= expected - 1e-3
        np.testing.assert_allclose(functions.measure(functa, split, within)[1], 20, atol=1e-3)
