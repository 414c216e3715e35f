"""The readers of latents, PCA and pixels: alike for all kinds, blind to test, resumable."""

import dataclasses

import numpy as np
import pytest
import torch

import functa_jax
from experiments import latent_readers, runner
from groundfloor.errors import UserError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A file of 120 pictures of 32x32 in two classes, and 40 for the test."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("images") / "images.npz"

    def drawn(count):
        labels = np.arange(count) % 2
        pictures = random.integers(0, 100, (count, 32, 32, 3)) + 100 * labels[:, None, None, None]
        return np.uint8(pictures), labels

    (train, y), (test, z) = drawn(120), drawn(40)
    np.savez(path, train_images=train, train_labels=y, test_images=test, test_labels=z)
    return path


def settings(images, folder, **more):
    return latent_readers.Config(
        dataset=str(images), seeds=(0,), steps=2, out=folder / "out", results=folder, **more
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kinds", "numbers"),
    [
        ("grid", ("PCA of patches", "patches"), (1024, 3072)),
        ("few", ("patches",), (3072,) * 2),
        ("decoded", (), None),
    ],
)
def test_the_table_has_a_row_for_each_kind(images, tmp_path, monkeypatch, name, kinds, numbers):
    narrow = {"layers": ("c4", "m")}
    monkeypatch.setattr(
        latent_readers,
        "GRID",
        dataclasses.replace(latent_readers.GRID, **narrow, precision="float32"),
    )
    small = dataclasses.replace(latent_readers.STUDIES["cifar10-94"], **narrow, precision="float32")
    monkeypatch.setitem(latent_readers.STUDIES, "cifar10-94", small)
    monkeypatch.setattr(latent_readers, "picture_kinds", lambda functa, data: {"pixels": np.array})
    labels = (10, 20) if name == "few" else ()
    config = settings(images, tmp_path, labels=labels, kinds=kinds)
    result = latent_readers.main(config, name)
    expected = [kind for kind in kinds or ("pixels",) for _ in labels or (None,)]
    assert [row["kind"] for row in result["rows"]] == expected
    if numbers:
        assert [row["numbers"] for row in result["rows"]] == list(numbers)
    if labels:
        assert [row["labels"] for row in result["rows"]] == list(labels)
        assert all(row["svm"]["mean"] == 1 for row in result["rows"])  # bright or dark
        assert (tmp_path / "latent_readers_few.png").exists()
    again = latent_readers.main(config, name)  # nothing is trained twice
    assert again["rows"] == result["rows"]
    with pytest.raises(UserError, match="other settings"):
        latent_readers.main(dataclasses.replace(config, steps=3), name)
    monkeypatch.setattr(latent_readers, "content_hash", lambda _: "another network")
    with pytest.raises(UserError, match="is of another functa or other images"):
        latent_readers.main(config, name)


def test_an_unknown_kind_is_refused(images, tmp_path):
    with pytest.raises(UserError, match="latents"):
        latent_readers.main(settings(images, tmp_path, kinds=("wavelets",)), "grid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"functa": runner.RESULTS / "functa_mnist.npz"}, "is of images"),
        ({"dataset": "digits"}, "is of images"),
    ],
)
def test_a_functa_of_other_images_is_refused(images, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        latent_readers.main(dataclasses.replace(settings(images, tmp_path), **options), "grid")


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [("grid", 7, "a multiple of 2"), ("grid", 1000, "at most"), ("decoded", 10, "is for grids")],
)
def test_numbers_of_labels_that_cannot_be_drawn_are_refused(images, tmp_path, name, count, message):
    config = settings(images, tmp_path, labels=(count,))
    with pytest.raises(UserError, match=message):
        latent_readers.main(config, name)


def test_fewer_labels_are_as_many_of_each_class_and_another_draw_each_seed():
    labels = np.repeat([0, 1, 2], [9, 5, 7])
    cells = np.arange(21, dtype=float).reshape(-1, 1, 1, 1) * np.ones((1, 8, 8, 2))
    parts = {"train": cells, "mirrored": cells, "val": cells, "test": cells}
    grids = latent_readers.Grids.of(parts, dict.fromkeys(("train", "val", "test"), labels), 3)
    draws = [grids.fewer(12, seed) for seed in (0, 0, 1)]
    for part in draws:
        assert np.bincount(part.train.labels).tolist() == [4, 4, 4]
        assert torch.equal(part.train.pixels, part.mirrored)
        assert len(part.test) == 21
    first, again, other = (part.train.pixels for part in draws)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_patches_and_their_pca_keep_what_they_should(images, tmp_path):
    config = settings(images, tmp_path)
    kinds = latent_readers.grid_kinds(functa_jax.load(config.functa), config.load())
    picture = config.load().test.images[:2]
    cells = kinds["patches"](picture)
    assert np.array_equal(
        cells[1, 2, 3].reshape(4, 4, 3), picture[1, 8:12, 12:16] / np.float32(255)
    )
    assert kinds["PCA of patches"](picture).shape == (2, 8, 8, 16)


def test_batches_hold_mirrored_and_shifted_cells_of_their_image():
    random = np.random.default_rng(0)
    parts = {
        name: random.normal(size=(n, 8, 8, 2))
        for name, n in (("train", 6), ("mirrored", 6), ("val", 2), ("test", 2))
    }
    labels = {"train": np.arange(6), "val": np.zeros(2, int), "test": np.zeros(2, int)}
    grids = latent_readers.Grids.of(parts, labels, 6)
    config = dataclasses.replace(latent_readers.GRID, batch_size=6)
    seen = {}
    for step in range(2):  # two epochs of one batch
        cells, rows = grids.batch(config, 0, step)
        again, _ = grids.batch(config, 0, step)
        assert torch.equal(cells, again)
        for image, row in zip(cells, rows.tolist(), strict=True):
            inside = {tuple(cell) for cell in image.reshape(2, -1).T.tolist() if any(cell)}
            for name, whole in (("own", grids.train.pixels), ("mirror", grids.mirrored)):
                if inside <= {tuple(cell) for cell in whole[row].reshape(2, -1).T.tolist()}:
                    seen.setdefault(row, set()).add(name)
    assert all(names == {"own", "mirror"} for names in seen.values())
    assert len(seen) == 6
