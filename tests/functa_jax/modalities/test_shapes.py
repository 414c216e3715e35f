"""Solids: closed forms of volume and symmetry, poses, and the data set that is made of them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from functa_jax.modalities import shapes, stacks, voxels
from groundfloor.data.functions import lattice_points
from groundfloor.errors import UserError


@pytest.fixture(scope="module")
def data():
    return voxels.load(classes=8, instances=10, side=12)


def upright(label, scale=0.9):
    return shapes.Solid(label, Rotation.identity(), scale)


def test_a_ball_has_the_volume_of_a_ball():
    share = voxels.occupancy(upright(0), 40).mean()  # of [-1, 1]^3
    radius = 0.9 / shapes._extent(0)[1]
    assert share == pytest.approx(4 / 3 * np.pi * radius**3 / 8, rel=0.02)


def test_a_ring_has_the_volume_of_pappus():
    label = shapes.FAMILIES.index(shapes.torus) * shapes.KINDS + 3
    tube, scale = 0.46, 0.9 / shapes._extent(label)[1]
    volume = 2 * np.pi**2 * (1 - tube) * tube**2 * scale**3
    assert voxels.occupancy(upright(label), 40).mean() == pytest.approx(volume / 8, rel=0.04)


def test_half_of_a_voxel_decides():
    for height, planes in ((0.01, 4), (-0.2, 3), (-0.3, 3)):  # voxels are 0.25 thick
        full = voxels.occupancy(lambda points, height=height: points[..., 0] - height, 8)
        assert full[:, 0, 0].sum() == planes and full.sum() == planes * 64


def test_a_gear_looks_the_same_after_one_tooth():
    label = shapes.FAMILIES.index(shapes.gear) * shapes.KINDS
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32)
    turned = Rotation.from_rotvec([0, 0, 2 * np.pi / 5]).apply(points).astype(np.float32)
    x, y, z = points.T
    a, b, c = turned.T
    assert np.allclose(shapes.gear(x, y, z, label % 4), shapes.gear(a, b, c, label % 4), atol=1e-4)


@pytest.mark.parametrize("label", range(0, shapes.CLASSES, 5))
def test_every_solid_fills_its_ball_and_does_not_leave_it(label):
    solid = shapes.posed(label, np.random.default_rng(label))
    points = 2 * lattice_points(24, 24, 24) - 1
    inside = solid(points) < 0
    assert inside.mean() > 0.004
    reach = np.linalg.norm(points[inside] - solid.shift, axis=1).max()
    assert 0.6 * solid.scale < reach <= solid.scale
    assert np.abs(points[inside]).max() < 1


def test_a_pose_moves_the_solid():
    still, random = upright(4 * 13), np.random.default_rng(1)
    turn, shift = Rotation.random(rng=random), np.array([0.1, -0.05, 0.02])
    moved = shapes.Solid(still.label, turn, 0.45, shift)
    points = random.uniform(-1, 1, (200, 3))
    there = 0.5 * turn.apply(points) + shift
    assert np.allclose(moved(there), still(points), atol=1e-3)


def test_the_set_is_stratified_and_the_same_again(data):
    assert [len(s) for s in (data.train, data.val, data.test)] == [56, 8, 16]
    for split, each in ((data.train, 7), (data.val, 1), (data.test, 2)):
        assert (np.bincount(split.labels) == each).all()
    ids = np.concatenate([data.train.ids, data.val.ids, data.test.ids])
    assert sorted(ids) == list(range(80))
    assert set(np.unique(data.train.values)) == {0, 255}
    again = voxels.load(classes=8, instances=10, side=12, images=5)
    assert again.fingerprint == data.fingerprint and len(again.train) == 5
    assert np.array_equal(again.train.values, data.train.values[:5])


def test_a_shape_depends_on_seed_class_and_number_alone(data):
    fewer = voxels.load(classes=2, instances=10, side=12)
    place = {number: row for row, number in enumerate(data.train.ids)}
    for row, number in enumerate(fewer.train.ids):
        assert np.array_equal(fewer.train.values[row], data.train.values[place[number]])
    other = voxels.load(classes=8, instances=10, side=12, seed=1)
    assert other.fingerprint != data.fingerprint


def test_stacks_begin_and_end_with_their_digits():
    keys = np.zeros((2, 9, 9), bool)
    keys[0, 2:5, 3:6] = keys[1, 4:8, 1:8] = True
    swept = stacks.swept(keys, 9) > 0
    assert np.array_equal(swept[0], keys[0]) and np.array_equal(swept[-1], keys[1])
    assert (np.diff(swept.sum((1, 2))) >= 0).all()  # from a smaller to a larger one


def test_stacks_of_embedded_digits():
    data = stacks.load(dataset="digits", count=20)
    assert data.lattice == (8, 8, 8) and len(data.train) == 20 and len(data.test) == 2
    assert data.train.values.dtype == np.uint8 and 0.05 < (data.train.values > 0).mean() < 0.9


@pytest.mark.parametrize("wrong", [{"classes": 65}, {"classes": 0}, {"instances": 9}, {"side": 3}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(UserError, match="are possible"):
        voxels.load(**wrong)
