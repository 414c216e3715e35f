"""Trainings on functions: as on images where they are pixels, exact resumes, any points."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from functa_jax.functa import Functa, load
from functa_jax.model import siren
from functa_jax.training import loop, losses
from functa_jax.training.samples import Samples
from groundfloor.data.functions import Functions, FunctionSet, fingerprint, lattice_points
from groundfloor.runs import Run
from tests.functa_jax.functas import fault
from tests.functa_jax.training.tiny import DATA, TINY, assert_same, checkpoints_of

RAGGED = replace(TINY, images=None, steps=6, eval_every=3, inner_points=7, outer_points=5)


def pixels_of(split):
    """A Split of images as Functions of their pixels."""
    n, *sides, channels = split.images.shape
    values = split.images.reshape(n, -1, channels)
    return Functions(values, lattice_points(*sides), split.labels, split.ids)


def set_of(splits, modality="functions", lattice=None, num_classes=0):
    digest = fingerprint(*splits)
    return FunctionSet("made up", modality, *splits, num_classes, digest, lattice)


def ragged(count, seed):
    """Waves in three dimensions, each known at 4 to 9 points of its own."""
    random = np.random.default_rng(seed)
    coords = random.uniform(-1, 1, (count, 9, 3)).astype(np.float32)
    values = 0.5 + 0.4 * np.sin(3 * coords.sum(-1, keepdims=True) + random.random((count, 1, 1)))
    mask = np.arange(9) < random.integers(4, 10, (count, 1))
    numbers = np.arange(count)
    return Functions(values.astype(np.float32), coords, numbers % 2, numbers, mask)


WAVES = set_of([ragged(24, 0), ragged(4, 1), ragged(4, 2)], num_classes=2)


def trained(folder, data, config):
    run = Run(folder, {}, data_fingerprint=data.fingerprint)
    return loop.train(config, data, run)[0]


@pytest.mark.slow
def test_pixels_of_images_train_as_the_images_do(whole, tmp_path):
    """Bit for bit: the same program on the same numbers."""
    splits = [pixels_of(getattr(DATA, name)) for name in ("train", "val", "test")]
    data = set_of(splits, lattice=(8, 8), num_classes=10)
    functa = trained(tmp_path / "run", data, TINY)
    assert_same(functa, whole[0])
    images = DATA.test.images[:3]
    latents, psnr = functa.encode(images)
    for found, expected in zip((latents, psnr), whole[0].encode(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(functa.decode(latents), whole[0].decode(latents), atol=1e-5)
    assert functa.decode(latents, 5).shape == (3, 5, 5, 1) == whole[0].decode(latents, 5).shape


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """(functa, run folder) of a training on WAVES."""
    folder = tmp_path_factory.mktemp("waves") / "run"
    return trained(folder, WAVES, RAGGED), folder


def test_a_resumed_training_ends_the_same(waves, tmp_path, monkeypatch):
    """Stopped after its second dispatch, when the first checkpoint has been written."""
    advance, calls = loop.Progress.advance, []

    def stopped(self, *args, **numbers):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return advance(self, *args, **numbers)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Progress, "advance", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run", WAVES, RAGGED)
    assert len(checkpoints_of(tmp_path / "run")) == 2  # of steps 0 and 3
    assert_same(trained(tmp_path / "run", WAVES, RAGGED), waves[0])


def test_what_is_padding_leaves_no_trace(waves, tmp_path):
    def spoilt(split):
        values, coords = split.values.copy(), split.coords.copy()
        values[~split.mask], coords[~split.mask] = 0.99, 0.0
        return replace(split, values=values, coords=coords)

    data = replace(WAVES, train=spoilt(WAVES.train), val=spoilt(WAVES.val))
    assert_same(trained(tmp_path / "run", data, RAGGED), waves[0])


def test_a_functa_of_functions_is_saved_and_loaded(waves):
    functa, folder = waves
    found = load(folder)
    assert found.hash == functa.hash and found.config == functa.config
    assert found.config.inputs == 3 and found.resolution is None and found.coords is None
    assert "made up of any points" in repr(found)


def test_encode_and_decode_at_points_of_each(waves):
    functa, split = waves[0], WAVES.test
    latents, psnr = functa.encode_of(split)
    for found in (
        functa.encode(split.values, coords=split.coords, mask=split.mask),
        functa.encode(split.values[..., 0], coords=split.coords, mask=split.mask),
    ):
        np.testing.assert_array_equal(found[0], latents)
        np.testing.assert_array_equal(found[1], psnr)
    values = functa.decode(latents, coords=split.coords)
    errors = ((values - split.values) ** 2)[..., 0]
    errors = (errors * split.mask).sum(1) / split.mask.sum(1)
    np.testing.assert_allclose(-10 * np.log10(errors), psnr, atol=1e-3)
    for latent, points, expected in zip(latents, split.coords, values, strict=True):
        alone = functa.decode(latent[None], coords=points)[0]
        np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_probabilities_are_decoded_as_such():
    config = siren.ModelConfig(1, 8, 3, 4, inputs=3, modality="voxels")
    samples = Samples.of(config, WAVES.test)
    assert samples.weights.dtype == np.float32 and len(samples) == 4
    functa = Functa(config, siren.init(config, 0), (2, 2, 2), coords=lattice_points(2, 2, 2))
    latents = np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)
    values = functa.decode(latents)
    model = siren.with_params(config, functa.params)
    outputs = [model(functa.coords, latent).reshape(2, 2, 2, 1) for latent in latents]
    np.testing.assert_allclose(values, jax.nn.sigmoid(losses.logits(np.stack(outputs))), atol=1e-5)
    same = functa.decode(latents, coords=functa.coords), functa.decode(latents, 2)
    np.testing.assert_allclose(same[0].reshape(values.shape), values, atol=1e-6)
    np.testing.assert_allclose(same[1], values, atol=1e-6)
    assert "points lie in [0, 1]^3" in fault(functa.decode, latents, coords=2 * functa.coords)
    assert "give a side, or all 3" in fault(functa.decode, latents, (2, 2))
    assert functa.decode(latents[:0]).shape == (0, 2, 2, 2, 1)
    occupancy = np.rint(values)[..., 0]
    assert functa.encode(occupancy)[0].shape == (3, 4)
    np.testing.assert_array_equal(
        functa.encode(occupancy)[0], functa.encode(occupancy.reshape(3, 8, 1))[0]
    )
    assert "(8, 1) or (2, 2, 2, 1)" in fault(functa.encode, occupancy[:, :1])
    assert "values are int64; give uint8" in fault(functa.encode, occupancy.astype(int))


def test_thinned_are_some_points_the_same_in_all():
    values = np.arange(24, dtype=np.float32).reshape(2, 12, 1)
    coords, weights = lattice_points(3, 4), np.arange(12, dtype=np.float32)
    few = Samples(values, coords, weights).thinned(5)
    rows = few.weights.astype(int)
    assert len(set(rows)) == 5 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(few.values, values[:, rows])
    np.testing.assert_array_equal(few.coords, coords[rows])
    own = Samples(values, np.stack([coords, coords])).thinned(5)
    np.testing.assert_array_equal(own.coords, [few.coords] * 2)
    for whole in (Samples(values, coords), Samples(values, coords, values[..., 0])):
        assert whole.thinned(None) is whole.thinned(12) is whole
    assert whole.thinned(5) is whole  # each has weights of its own: a mask, perhaps


def test_wrong_points_and_masks_are_refused_in_one_line(waves):
    functa, split = waves[0], WAVES.test
    latents = np.zeros((4, 4), np.float32)
    for wrong, said in (
        ({}, "give their coords"),
        ({"coords": split.coords[..., :2]}, "not (M, 3) or (n, M, 3)"),
        ({"coords": split.coords[:3]}, "coords of 3 functions, values of 4"),
        ({"coords": np.full_like(split.coords, np.nan)}, "coords are not finite"),
        ({"coords": split.coords, "mask": split.mask[:, :3]}, "mask has shape (4, 3)"),
        ({"coords": split.coords, "mask": 0 * split.mask}, "at least one point must count"),
    ):
        assert said in fault(functa.encode, split.values, **wrong)
    assert "give coords" in fault(functa.decode, latents)
    assert "give coords" in fault(functa.decode, latents, 4)
    assert "coords of 3 functions, latents of 4" in fault(
        functa.decode, latents, coords=split.coords[:3]
    )
