"""renderer: a ball and an empty room, whose pictures are known."""

import numpy as np

from functa_jax.scenes import cameras, renderer

POSES = cameras.look_at(cameras.spiral(3))


def ball(points):
    """Of radius 0.8, in a room of 1."""
    return np.linalg.norm(points, axis=-1) - 0.8


BALL = renderer.Body(ball, (1.0, 0.5, 0.0))


def test_a_ball_has_its_circle_and_lamberts_shading():
    pictures = renderer.pictures(BALL, POSES, 24)
    rays = np.float64(cameras.rays(POSES, 24))
    direction = rays[..., 3:] / np.linalg.norm(rays[..., 3:], axis=-1, keepdims=True)
    along = -(rays[..., :3] * direction).sum(-1)
    half = 0.4**2 - cameras.DISTANCE**2 + along**2  # the square of half a chord
    point = rays[..., :3] + (along - np.sqrt(np.maximum(half, 0)))[..., None] * direction
    light = np.maximum(point / 0.4 @ renderer.LIGHT, 0)
    shade = (renderer.AMBIENT + (1 - renderer.AMBIENT) * light)[..., None] * BALL.colour
    found = pictures.reshape(3, -1, 3) / 255
    assert (found[half < -0.02] == 1).all()
    np.testing.assert_allclose(found[half > 0.02], shade[half > 0.02], atol=0.03)


def test_an_empty_room_is_white():
    empty = renderer.Body(lambda points: np.ones(points.shape[:-1]), (0, 0, 0), lattice=8)
    assert (renderer.pictures(empty, POSES, 4) == 255).all()


def test_the_surface_is_where_the_function_is_zero():
    rays = cameras.rays(POSES, 8).reshape(-1, 6)
    rows, points = renderer._hits(BALL, rays)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 0.4, atol=2e-3)
    assert len(np.unique(rows)) == len(rows) > 20
