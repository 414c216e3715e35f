"""views: the data set of computed scenes, its cameras and what is kept of it."""

import numpy as np
import pytest

from functa_jax.scenes import cameras, renderer, views
from groundfloor.errors import UserError


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Balls whose radius tells their class and number, rendered coarsely; an empty cache."""
    made = []

    def ball(label, number, seed=0):
        made.append((label, number, seed))
        radius = 0.3 + 0.02 * label + 0.01 * number
        return renderer.Body(lambda x: np.linalg.norm(x, axis=-1) - radius, (1, 0, 0), lattice=8)

    monkeypatch.setattr(views, "body", ball)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return made


def test_the_set_has_its_shapes_splits_and_shared_rays(quick):
    data = views.load(instances=12, views=4, side=4)
    assert (data.modality, data.lattice, data.num_classes) == ("scenes", (4, 4, 4), 10)
    assert [len(split) for split in (data.train, data.val, data.test)] == [100, 10, 10]
    assert data.train.shared and data.train.values.shape == (100, 64, 3)
    for split in (data.val, data.test):  # of every class the same
        np.testing.assert_array_equal(np.bincount(split.labels, minlength=10), 1)
    poses = cameras.look_at(cameras.spiral(4))
    np.testing.assert_array_equal(data.train.coords, cameras.rays(poses, 4).reshape(-1, 6))
    # An id leads back to the scene.
    row = 3
    scene = views.body(int(data.test.labels[row]), int(data.test.ids[row]) % 12)
    again = renderer.pictures(scene, poses, 4).reshape(-1, 3)
    np.testing.assert_array_equal(data.test.values[row], again)


def test_pictures_are_kept_and_made_again_where_damaged(quick, tmp_path):
    first = views.load(instances=12, views=4, side=4)
    assert len(quick) == 120
    assert views.load(instances=12, views=4, side=4).fingerprint == first.fingerprint
    assert len(quick) == 120
    (kept,) = tmp_path.rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:500])
    assert views.load(instances=12, views=4, side=4, images=5).fingerprint == first.fingerprint
    assert len(quick) == 240


def test_a_scene_depends_on_its_class_number_and_seed_alone():
    one, same, other = (views.body(3, 1, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.values, same.values)
    assert (one.values != other.values).any()
    assert (one.values < 0).any() and (one.values > 0).any()


def test_given_and_novel_views_are_apart_and_the_first_given_ones_far_from_each_other():
    given, novel = views.split_views(24)
    assert sorted([*given, *novel]) == list(range(24)) and len(novel) == 6
    places = cameras.spiral(24, distance=1.0)[given]
    apart = np.arccos(np.clip(places @ places.T, -1, 1))
    assert apart[0, 1] > np.pi / 2
    closest = [apart[: n + 1, : n + 1][np.triu_indices(n + 1, 1)].min() for n in range(1, 18)]
    assert (np.diff(closest) <= 1e-9).all()


@pytest.mark.parametrize("wrong", [{"instances": 11}, {"views": 3}, {"side": 3}])
def test_too_few_are_refused(wrong):
    with pytest.raises(UserError, match="are needed"):
        views.load(**wrong)
