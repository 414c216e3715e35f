"""Exporting a functaset: the same latents as encode, augmented copies, shards, exact resume."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from functa_jax import functa
from functa_jax.functaset import COLUMNS, SPLITS, load_functaset
from functa_jax.model import siren
from functa_jax.training import exporter
from functa_jax.training.exporter import Augmentation
from groundfloor.data import datasets
from groundfloor.data.split import Split
from groundfloor.errors import UserError
from groundfloor.runs import Stopping
from tests.functa_jax.training.exports import BATCH, CONFIG, DIGITS, FUNCTA, OTHER, SHAPE
from tests.tfds import pictures


def made_data(train=20, val=0, test=9):
    random = np.random.default_rng(0)

    def split(n):
        images = random.integers(0, 256, (n, *SHAPE), np.uint8)
        return Split(images, random.integers(0, 10, n), random.permutation(1000)[:n])

    return datasets.Dataset("noise", *map(split, (train, val, test)), 10, "0123456789abcdef")


DATA = made_data()
TWICE = Augmentation(copies=2, flip=True, pad=1, seed=5)
BATCHES = 3 * 3 + 2  # of DATA with TWICE: three for each copy of train, two for test


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(exporter, "BATCH", BATCH)


def contents(path):
    """{key: bytes} of a functaset's file."""
    with np.load(path) as file:
        return {key: file[key].tobytes() for key in file.files}


# ---- what is written ----


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The file of an undisturbed export of DATA with TWICE."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "BATCH", BATCH)
        (path,) = exporter.export(FUNCTA, DATA, tmp_path_factory.mktemp("a") / "f.npz", TWICE)
    return path


def test_latents_are_those_of_encode(tmp_path):
    exporter.export(FUNCTA, DATA, tmp_path / "functaset.npz")
    functaset = load_functaset(tmp_path)
    for name in SPLITS:
        source, found = getattr(DATA, name), getattr(functaset, name)
        latents, psnr = FUNCTA.encode(source.images)
        assert found.latents.dtype == found.psnr.dtype == np.float32
        np.testing.assert_allclose(found.latents, latents, atol=1e-6)
        np.testing.assert_allclose(found.psnr, psnr, atol=1e-4)
        np.testing.assert_array_equal(found.labels, source.labels)
        np.testing.assert_array_equal(found.ids, source.ids)
    assert len(functaset.val) == 0 and functaset.val.latents.shape == (0, 4)


def test_statistics_are_of_train_latents(clean):
    functaset = load_functaset(clean)
    latents = functaset.train.latents.astype(np.float64)
    np.testing.assert_allclose(functaset.mean, latents.mean(0), rtol=1e-6)
    np.testing.assert_allclose(functaset.std, latents.std(0), rtol=1e-6)


def test_metadata_says_what_made_the_latents(clean):
    metadata = load_functaset(clean).metadata
    assert metadata["data"] == "noise" and metadata["data_fingerprint"] == DATA.fingerprint
    assert siren.ModelConfig(**metadata["model"]) == CONFIG
    assert metadata["checkpoint"] == FUNCTA.hash
    assert metadata["inner_steps"] == 3 and metadata["resolution"] == [4, 6]
    assert Augmentation(**metadata["augmentation"]) == TWICE


def test_copies_follow_the_images_and_repeat_their_ids(clean):
    train = load_functaset(clean).train
    np.testing.assert_array_equal(train.ids, np.tile(DATA.train.ids, 3))
    np.testing.assert_array_equal(train.labels, np.tile(DATA.train.labels, 3))
    for copy, found in enumerate(np.split(train.latents, 3)):
        images = np.concatenate(
            [TWICE(DATA.train.images[start : start + 8], copy, start) for start in (0, 8, 16)]
        )
        np.testing.assert_allclose(found, FUNCTA.encode(images)[0], atol=1e-6)


def test_half_precision_is_the_rounded_latents(clean, tmp_path):
    exporter.export(FUNCTA, DATA, tmp_path / "functaset.npz", TWICE, "float16")
    half, whole = load_functaset(tmp_path), load_functaset(clean)
    assert half.train.latents.dtype == np.float16
    np.testing.assert_array_equal(half.train.latents, whole.train.latents.astype(np.float16))
    np.testing.assert_array_equal(half.train.psnr, whole.train.psnr)


@given(
    arrays(
        st.sampled_from([np.float16, np.float32]),
        st.tuples(st.integers(1, 30), st.integers(1, 4)),
        elements=st.floats(-1000, 1000, width=16, allow_subnormal=False),
    )
)
def test_mean_and_standard_deviation(latents):
    mean, std = exporter._statistics(latents)
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, latents.mean(0, dtype=np.float64), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(std, latents.std(0, dtype=np.float64), rtol=1e-6, atol=1e-9)


def test_statistics_of_many_latents_keep_their_digits():
    # In float32 the mean of so many numbers near 1000 would lose a standard deviation of 0.01.
    latents = np.random.default_rng(0).normal(1000, 0.01, (150_000, 2)).astype(np.float32)
    mean, std = exporter._statistics(latents)
    np.testing.assert_allclose(mean, latents.mean(0, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(std, latents.std(0, dtype=np.float64), rtol=1e-6)


# ---- augmentation ----


def crops(image, pad, flip):
    """Every crop of the zero-padded image, upright and then, with flip, mirrored."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * pad, width + 2 * pad, channels), image.dtype)
    padded[pad : pad + height, pad : pad + width] = image
    found = []
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            found.append(padded[top : top + height, left : left + width])
    return found + [crop[:, ::-1] for crop in found] * flip


starts = st.integers(0, 10**6)


@given(st.integers(0, 3), st.booleans(), st.integers(0, 99), st.integers(1, 5), starts)
def test_a_copy_is_a_crop_of_the_padded_image(pad, flip, seed, copy, start):
    images = pictures(6, 5)[:, :, :4]
    copies = Augmentation(copies=5, flip=flip, pad=pad, seed=seed)(images, copy, start)
    assert copies.shape == images.shape and copies.dtype == images.dtype
    for image, augmented in zip(images, copies, strict=True):
        assert any(np.array_equal(augmented, crop) for crop in crops(image, pad, flip))


@pytest.mark.parametrize("flip", [False, True])
def test_all_crops_are_equally_likely(flip):
    image = pictures(1, 5)[0]
    possible = crops(image, 1, flip)
    augmented = Augmentation(copies=1, flip=flip, pad=1)(np.stack([image] * 3600), 1, 0)
    counts = [(augmented == crop).all((1, 2, 3)).sum() for crop in possible]
    assert sum(counts) == 3600
    # Each count is binomial: 5 standard deviations about its mean.
    mean = 3600 / len(possible)
    assert np.abs(np.array(counts) - mean).max() < 5 * np.sqrt(mean)


@given(st.builds(Augmentation, st.just(3), st.booleans(), st.integers(0, 2)), starts)
def test_copy_zero_is_the_image(augmentation, start):
    np.testing.assert_array_equal(augmentation(pictures(3), 0, start), pictures(3))


@given(st.integers(0, 99), st.integers(1, 9), starts)
def test_copies_are_drawn_anew_from_seed_copy_and_start(seed, copy, start):
    images = pictures(40)

    def draw(seed, copy, start):
        return Augmentation(copies=9, flip=True, pad=2, seed=seed)(images, copy, start)

    once = draw(seed, copy, start)
    np.testing.assert_array_equal(draw(seed, copy, start), once)
    for other in ((seed + 1, copy, start), (seed, copy + 1, start), (seed, copy, start + 1)):
        assert not np.array_equal(draw(*other), once)


# ---- shards ----


def test_shards_join_to_the_whole(clean, tmp_path):
    whole = load_functaset(clean)
    size = 69 * 4 * 4  # 60 train latents and 9 of test, 4 numbers of 4 bytes
    for count in (2, 5):
        limit = size / count / 10**6
        paths = exporter.export(FUNCTA, DATA, tmp_path / "f.npz", TWICE, shard_megabytes=limit)
        assert sorted(paths) == sorted(tmp_path.iterdir()) and len(paths) == count
        joined = load_functaset(tmp_path / "f.npz")
        for name in SPLITS:
            for column in COLUMNS:
                left, right = (getattr(getattr(x, name), column) for x in (joined, whole))
                np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(joined.mean, whole.mean)


def test_a_new_export_replaces_the_old_one_whatever_its_shards(tmp_path):
    for model, limit in ((FUNCTA, 1000), (OTHER, 1e-4), (FUNCTA, 2e-4), (OTHER, 1000)):
        paths = exporter.export(model, DATA, tmp_path / "f.npz", shard_megabytes=limit)
        assert sorted(paths) == sorted(tmp_path.iterdir())
        assert load_functaset(tmp_path / "f.npz").metadata["checkpoint"] == model.hash


# ---- resume ----


def interrupt(monkeypatch, path, call, model=FUNCTA, data=DATA, augmentation=TWICE):
    """Export, and stop at the beginning of the `call`-th batch."""
    calls = []

    def encode_of(self, split, **kwargs):
        calls.append(len(split))
        if len(calls) == call:
            raise KeyboardInterrupt
        return whole(self, split, **kwargs)

    whole = functa.Functa.encode_of
    with monkeypatch.context() as patch:
        patch.setattr(functa.Functa, "encode_of", encode_of)
        with pytest.raises(KeyboardInterrupt):
            exporter.export(model, data, path, augmentation)
    assert not path.exists()


def counted(monkeypatch):
    """A list that grows by the number of images in each batch that is encoded from now on."""
    encode, sizes = functa.Functa.encode_of, []
    monkeypatch.setattr(
        functa.Functa, "encode_of", lambda *args: sizes.append(len(args[1])) or encode(*args)
    )
    return sizes


@pytest.mark.parametrize("call", [1, 2, 4, 10, BATCHES])
def test_an_interrupted_export_goes_on_where_it_was(call, clean, monkeypatch, tmp_path):
    path = tmp_path / "functaset.npz"
    interrupt(monkeypatch, path, call)
    sizes = counted(monkeypatch)
    exporter.export(FUNCTA, DATA, path, TWICE)
    assert sizes == ([8, 8, 4] * 3 + [8, 1])[call - 1 :]
    assert contents(path) == contents(clean)
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_may_be_interrupted_again_and_again(clean, monkeypatch, tmp_path):
    path = tmp_path / "functaset.npz"
    for _ in range(BATCHES - 1):  # one batch each time
        interrupt(monkeypatch, path, 2)
    monkeypatch.setattr(Stopping, "kept", None)
    interrupt(monkeypatch, path, 1)  # before anything new is kept
    assert Stopping.kept.startswith(f"batch {BATCHES - 1} in {tmp_path}")
    sizes = counted(monkeypatch)
    exporter.export(FUNCTA, DATA, path, TWICE)
    assert sizes == [1]
    assert contents(path) == contents(clean)


@pytest.mark.parametrize(
    "before",
    [
        {"model": OTHER},
        {"model": replace(FUNCTA, inner_steps=1)},
        {"model": replace(FUNCTA, penalty=0.1)},
        {"augmentation": Augmentation(copies=2, flip=True, pad=1, seed=6)},
        {"augmentation": Augmentation(copies=1, flip=True, pad=1, seed=5)},
        {"data": made_data(train=9)},
        {"data": replace(DATA, fingerprint="f" * 16)},
    ],
    ids=["weights", "steps", "penalty", "seed", "copies", "fewer images", "data"],
)
def test_the_rest_of_another_export_is_not_used(before, clean, monkeypatch, tmp_path):
    path = tmp_path / "functaset.npz"
    interrupt(monkeypatch, path, 3, **before)
    sizes = counted(monkeypatch)
    exporter.export(FUNCTA, DATA, path, TWICE)
    assert sum(sizes) == 69 and contents(path) == contents(clean)


@pytest.mark.parametrize("lost", ["plan.json", "done.json"])
def test_half_of_a_partial_folder_is_not_used(lost, clean, monkeypatch, tmp_path):
    path = tmp_path / "functaset.npz"
    interrupt(monkeypatch, path, 3, model=FUNCTA if lost == "done.json" else OTHER)
    (tmp_path / "functaset.partial" / lost).unlink()
    exporter.export(FUNCTA, DATA, path, TWICE)
    assert contents(path) == contents(clean)


def test_an_export_that_is_at_work_elsewhere_is_left_alone(monkeypatch, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "functaset.npz"
    interrupt(monkeypatch, path, 3)
    (tmp_path / "functaset.partial" / ".lock").unlink()
    with (tmp_path / "functaset.partial" / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as another process
        for model in (FUNCTA, OTHER):
            with pytest.raises(UserError, match=r"at work in .*functaset\.partial"):
                exporter.export(model, DATA, path, TWICE)
        assert (tmp_path / "functaset.partial" / "plan.json").exists()
    assert exporter.export(OTHER, DATA, path, TWICE) == [path]  # which empties the folder first


def test_latents_that_half_precision_cannot_hold_are_refused(tmp_path):
    far = {**DIGITS.params, "inner_rate": np.full(DIGITS.config.latent_dim, 1e9, np.float32)}
    functa = replace(DIGITS, params=far, inner_steps=1)
    data = datasets.load("digits", images=3)
    with pytest.raises(UserError, match="too large for float16; use float32"):
        exporter.export(functa, data, tmp_path / "half.npz", dtype="float16")
    assert exporter.export(functa, data, tmp_path / "whole.npz") == [tmp_path / "whole.npz"]


def test_latents_that_are_not_finite_are_refused_and_not_written(tmp_path):
    endless = {**DIGITS.params, "inner_rate": np.full(DIGITS.config.latent_dim, 3e38, np.float32)}
    data = datasets.load("digits", images=3)
    with pytest.raises(UserError, match="of 3 images of train are not finite after 3 steps"):
        exporter.export(replace(DIGITS, params=endless), data, tmp_path / "functaset.npz")
    assert not (tmp_path / "functaset.npz").exists()


def test_what_several_processes_left_gives_way_to_one(tmp_path):
    whole = tmp_path / "f.partial"
    exporter._begin(whole / "0-of-2", ["another plan"])
    (whole / "0-of-2" / "train_latents.npy").write_bytes(b"half")
    exporter._begin(whole, ["plan"])
    assert sorted(path.name for path in whole.iterdir()) == ["plan.json"]
