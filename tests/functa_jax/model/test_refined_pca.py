"""The decoder that starts as PCA: what it is before training, in the inner loop and in PyTorch."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import functa_jax
from functa_jax import meta_train, view
from functa_jax.deepmind import save_weights
from functa_jax.evaluation import reconstruction
from functa_jax.functa import Functa, load
from functa_jax.model import refined_pca, siren
from functa_jax.model.config import ModelConfig
from functa_jax.training import loop
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError
from tests.refusals import refusal

SIDES, L = (6, 5), 7
CONFIG = ModelConfig(
    2,
    width=4,
    depth=3,
    latent_dim=L,
    w0=3.0,
    update="gauss_newton",
    cg_iterations=2,
    rate_start=1.0,
    decoder="refined_pca",
    picture=SIDES,
)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (40, *SIDES, 2), dtype=np.uint8)
PCA = reconstruction.pca(IMAGES, L)
FRESH = refined_pca.with_pca(jax.device_get(siren.init(CONFIG, 0)), PCA)


def trained():
    """Parameters as after a training: the last convolution is not zero."""
    params = jax.tree.map(np.copy, FRESH)
    last = params["layers"][CONFIG.depth - 1]
    last["kernel"] += RANDOM.normal(0, 0.03, last["kernel"].shape).astype(np.float32)
    last["bias"] += RANDOM.normal(0, 0.03, last["bias"].shape).astype(np.float32)
    return params


TRAINED = trained()
FUNCTA = Functa(CONFIG, TRAINED, SIDES, inner_steps=1)


@pytest.fixture(scope="module")
def course():
    """Latents and errors of IMAGES after 0 to 3 steps, before training."""
    return Functa(CONFIG, FRESH, SIDES).course(IMAGES, 3)


def test_before_training_and_without_steps_it_is_pca(course):
    latents = course[0][:, 0]
    rows = reconstruction.pixel_rows(IMAGES)
    np.testing.assert_allclose(latents, PCA.transform(rows), atol=1e-5)
    expected = PCA.inverse_transform(PCA.transform(rows)).reshape(IMAGES.shape)
    found = Functa(CONFIG, FRESH, SIDES).decode(latents)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_before_training_steps_change_nothing(course):
    """PCA's latent is the minimum of a linear decoder's error."""
    latents, errors = course
    np.testing.assert_allclose(latents[:, 3], latents[:, 0], atol=1e-5)
    np.testing.assert_allclose(errors[:, 3], errors[:, 0], rtol=1e-4)


def test_the_picture_follows_the_definition():
    """Against convolutions by lax, in float64."""
    with jax.enable_x64(True):
        params = jax.tree.map(partial(np.asarray, dtype=np.float64), TRAINED)
        latent = RANDOM.normal(size=L)
        even = latent / params["deviations"] * np.sqrt(PCA.mean_.size / L)
        linear, h = ((row @ params["components"]).reshape(1, *SIDES, 2) for row in (latent, even))
        for number in range(CONFIG.depth):
            layer = params["layers"][number]
            kernel = layer["kernel"].reshape(3, 3, h.shape[-1], -1)
            dimensions = ("NHWC", "HWIO", "NHWC")
            h = jax.lax.conv_general_dilated(
                h, kernel, (1, 1), "SAME", dimension_numbers=dimensions
            )
            h = h + layer["bias"]
            if number < CONFIG.depth - 1:
                h = jnp.sin(CONFIG.w0 * h)
        expected = (linear + h)[0] + params["mean"].reshape(*SIDES, 2)
    found = siren.with_params(CONFIG, TRAINED).picture(jnp.asarray(latent, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_deviations_are_those_of_train_latents(course):
    np.testing.assert_allclose(course[0][:, 0].std(0, ddof=1), FRESH["deviations"], rtol=1e-3)


def test_points_are_interpolated_between_pixels():
    latents = RANDOM.normal(size=(2, L)).astype(np.float32)
    pictures = FUNCTA.decode(latents)
    centres = siren.coordinate_grid(*SIDES)
    at_centres = FUNCTA.decode(latents, coords=centres)
    np.testing.assert_allclose(at_centres.reshape(pictures.shape), pictures, atol=1e-5)
    between = np.float32([[1.0 / 6, 0.5 / 5]])  # between the first two pixels of the first column
    np.testing.assert_allclose(
        FUNCTA.decode(latents, coords=between)[:, 0], pictures[:, :2, 0].mean(1), atol=1e-5
    )


def test_steps_find_the_latent_that_a_picture_was_made_from():
    latents = RANDOM.normal(0, 0.2, (len(IMAGES), L)).astype(np.float32)
    found, errors = FUNCTA.course(FUNCTA.decode(latents), 3)
    before, after = (np.abs(found[:, k] - latents).max() for k in (0, 3))
    assert before > 0.1 and after < 0.05 * before  # PCA alone does not
    assert (errors[:, 3] < 1e-3 * errors[:, 0]).all()


def test_training_leaves_pca_as_it_is_and_refines_it(tmp_path):
    data = datasets.load("digits", images=100)
    config = replace(
        meta_train.PRESETS["digits"],
        decoder="refined_pca",
        update="gauss_newton",
        training_steps=0,
        rate_start=1.0,
        width=8,
        depth=3,
        latent_dim=8,
        batch_size=8,
        steps=50,
        dispatch=50,
        warmup=0,
        outer_rate=1e-2,
        w0=3.0,
        ema=0.0,
    )
    functa, _ = loop.train(config, data, None)
    pca = reconstruction.pca(data.train.images, 8)
    for name, expected in (("components", pca.components_), ("mean", pca.mean_)):
        np.testing.assert_allclose(functa.params[name], expected, atol=1e-30)  # 0 if denormal
    _, psnr = functa.encode(data.train.images)
    assert psnr.mean() > reconstruction.pca_psnr(pca, data.train.images) + 0.1
    functa.save(tmp_path / "functa.npz")
    again = load(tmp_path / "functa.npz")
    assert again.config == functa.config and again.hash == functa.hash


@pytest.mark.parametrize("resolution", [SIDES, (9, 4)])
def test_pytorch_agrees(resolution):
    latents = RANDOM.normal(size=(3, L)).astype(np.float32)
    module = functa_jax.torch_decoder(FUNCTA, resolution)
    found = module(torch.from_numpy(latents)).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, FUNCTA.decode(latents, resolution), atol=1e-4)


def test_what_draws_modulated_sirens_refuses_it(tmp_path):
    FUNCTA.save(tmp_path / "functa.npz")
    with pytest.raises(UserError, match="decodes modulated SIRENs only"):
        view.main(view.Config(run=tmp_path))
    square = replace(FUNCTA, resolution=(6, 6))
    with pytest.raises(UserError, match="DeepMind's format has modulated SIRENs"):
        save_weights(square, tmp_path / "weights")


def test_large_images_in_files_are_refused(monkeypatch):
    data = datasets.load("digits")
    outside = replace(data, train=replace(data.train, images=memoryview(data.train.images)))
    monkeypatch.setattr(reconstruction, "MOST_NUMBERS", 63)
    config = replace(meta_train.PRESETS["digits"], decoder="refined_pca", update="gauss_newton")
    with pytest.raises(UserError, match="needs all images in memory; give --resident yes"):
        meta_train._check_images(config, outside)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--update", "rates"), "--update rates: --decoder refined_pca has gauss_newton only"),
        (("--grid", "2"), "--grid 2: --decoder refined_pca has none only"),
        (("--inner-points", "9"), "--inner-points 9: --decoder refined_pca has none only"),
        (("--training-steps", "4"), "--training-steps 4: there are 3 (--inner-steps)"),
        (("--latent-dim", "64"), "--latent-dim 64: PCA of digits has no more than 63"),
    ],
)
def test_what_cannot_be_is_refused(flags, said, capsys, tmp_path):
    words = ["digits", "--decoder", "refined_pca", "--update", "gauss_newton", *flags]
    words += ["--out", str(tmp_path / "run")]
    run = partial(cli.run, meta_train.main, meta_train.Config, meta_train.PRESETS, words)
    assert said in refusal(capsys, run)
    assert not (tmp_path / "run").exists()
