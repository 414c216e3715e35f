"""novel: views picked, latents fitted to the given ones, figures beside the rivals; pictures."""

import numpy as np
import pytest
from PIL import Image

from functa_jax.functa import Functa
from functa_jax.model import siren
from functa_jax.scenes import cameras, novel, pictures, rivals
from functa_jax.scenes.views import split_views
from groundfloor.data.functions import Functions, FunctionSet

LATTICE = (6, 4, 4)
CONFIG = siren.ModelConfig(3, 4, 2, 3, modality="scenes", inputs=6, ray_points=3)


def scenes(count, seed):
    random = np.random.default_rng(seed)
    values = random.integers(0, 256, (count, 96, 3), np.uint8)
    coords = cameras.rays(cameras.look_at(cameras.spiral(6)), 4).reshape(-1, 6)
    return Functions(values, coords, np.arange(count) % 2, np.arange(count))


@pytest.fixture(scope="module")
def data():
    splits = scenes(8, 0), scenes(4, 1), scenes(4, 2)
    return FunctionSet("scenes", "scenes", *splits, 2, "fingerprint", LATTICE)


@pytest.fixture(scope="module")
def functa(data):
    return Functa(CONFIG, siren.init(CONFIG, 0), LATTICE, coords=data.train.coords)


def test_views_are_picked_with_their_rays(data):
    coords, values = novel.of_views(data.test, LATTICE, [4, 1])
    whole = data.test.values.reshape(4, 6, 16, 3)
    np.testing.assert_array_equal(values.reshape(4, 2, 16, 3), whole[:, [4, 1]])
    np.testing.assert_array_equal(coords[:16], data.test.coords[64:80])
    own = Functions(
        data.test.values,
        np.tile(data.test.coords, (4, 1, 1)),
        data.test.labels,
        data.test.ids,
    )
    np.testing.assert_array_equal(novel.of_views(own, LATTICE, [4, 1])[0], [coords] * 4)


def test_latents_see_the_given_views_alone(data, functa):
    given = split_views(6)[0][:2]
    found = novel.latents(functa, data.test, LATTICE, given)
    changed = data.test.values.copy()
    others = np.setdiff1d(np.arange(6), given)
    changed.reshape(4, 6, 16, 3)[:, others] = 0
    test = Functions(changed, data.test.coords, data.test.labels, data.test.ids)
    np.testing.assert_array_equal(novel.latents(functa, test, LATTICE, given), found)
    fewer = novel.latents(functa, data.test, LATTICE, given, most=5)
    assert fewer.shape == found.shape == (4, 3) and (fewer != found).any()


def test_all_ways_are_compared_on_the_same_pictures(data, functa):
    results = novel.compare(functa, data, novel.Rivals(data, 3), counts=(1, 2))
    assert list(results) == [1, 2]
    assert all(
        list(row) == ["functa", "Wiener", "PCA", "nearest", "mean"] for row in results.values()
    )
    given, unseen = split_views(6)
    true = novel.of_views(data.test, LATTICE, unseen)[1].reshape(4, -1) / 255
    mean = data.train.values.reshape(8, 6, -1)[:, unseen].mean(0).reshape(1, -1) / 255
    expected = rivals.view_psnr(np.tile(mean, (4, 1)), true, len(unseen))
    assert results[1]["mean"] == pytest.approx(expected) == results[2]["mean"]
    found = novel.predictions(functa, data.test, LATTICE, given[:1], unseen)
    assert found.shape == (4, len(unseen), 4, 4, 3)
    psnr = rivals.view_psnr(found.reshape(4, -1), true, len(unseen))
    assert results[1]["functa"] == pytest.approx(psnr)


def test_pictures_are_drawn_and_the_table_turns(data, functa, tmp_path):
    others = novel.Rivals(data, 3)
    pictures.novel_views(tmp_path / "novel.png", functa, data, others, scenes=2, views=2)
    pictures.turntable(tmp_path / "turn.gif", functa, data, scenes=3)
    with Image.open(tmp_path / "novel.png") as image:
        assert image.width > 100
    with Image.open(tmp_path / "turn.gif") as image:
        assert image.n_frames == pictures.FRAMES
        assert image.width > 3 * image.height
