"""cameras: orthonormal poses, rays through pixel centres, equivariance."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from functa_jax.scenes import cameras

POSES = cameras.look_at(np.concatenate([cameras.spiral(7), [[0, 0, 1.3], [0, 0, -1.3]]]))


def test_axes_are_orthonormal_and_right_handed():
    rotations = POSES[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), [np.eye(3)] * 9, atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    assert (rotations[:7, 2, 1] > 0).all()  # the picture's top is up


def test_the_ray_in_the_middle_meets_the_origin_at_the_cameras_distance():
    middle = cameras.rays(POSES, 5)[:, 12]
    at = middle[:, :3] + 1.3 * middle[:, 3:]
    np.testing.assert_allclose(at, 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(middle[:, 3:], axis=-1), 1, rtol=1e-6)


def test_directions_have_length_one_along_the_axis_and_pixels_their_place():
    pose = np.eye(4)
    pose[:3, 3] = 0.1, 0.2, 0.3
    rays = cameras.rays(pose[None], 4, focal=0.5)[0].reshape(4, 4, 6)
    np.testing.assert_allclose(rays[..., :3], np.broadcast_to([0.1, 0.2, 0.3], (4, 4, 3)))
    np.testing.assert_allclose(rays[..., 5], -1)
    # (i - width / 2 + 0.5) / focal, in pixels, to the right; and rows go down.
    np.testing.assert_allclose(rays[0, :, 3], (np.arange(4) - 2 + 0.5) / 2)
    np.testing.assert_allclose(rays[:, 0, 4], -(np.arange(4) - 2 + 0.5) / 2)


def test_turned_poses_have_turned_rays():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0.3, -0.5, 0.7]).as_matrix()
    plain, turned = cameras.rays(POSES, 3), cameras.rays(turn @ POSES, 3)
    expected = plain.reshape(*plain.shape[:2], 2, 3) @ turn[:3, :3].T
    np.testing.assert_allclose(turned.reshape(expected.shape), expected, atol=1e-6)


def test_what_scenes_are_seen_from_is_found_in_their_rays():
    poses = cameras.look_at(cameras.spiral(7, distance=4.0))
    found = cameras.seen_from(cameras.rays(poses, 5, 0.7).reshape(-1, 6), 5)
    np.testing.assert_allclose(found, (4.0, 0.7), rtol=1e-6)


@pytest.mark.parametrize("positions", [cameras.spiral(24), cameras.turntable(6)])
def test_positions_lie_on_the_sphere(positions):
    np.testing.assert_allclose(np.linalg.norm(positions, axis=-1), cameras.DISTANCE)
    gaps = np.linalg.norm(positions[:, None] - positions, axis=-1) + 9 * np.eye(len(positions))
    assert gaps.min() > 0.25


def test_the_ball_around_the_scene_is_in_every_picture():
    corners = cameras.rays(POSES, 64).reshape(9, 64, 64, 6)
    half = np.linalg.norm(corners[:, 0, 32, 3:] - corners[:, 32, 32, 3:], axis=-1)
    assert (np.arctan(half) > np.arcsin(0.5 / cameras.DISTANCE)).all()
