"""Surfaces are where they should be; every modality has its picture."""

import numpy as np
import pytest
from PIL import Image

from functa_jax.modalities import isosurface, pictures
from groundfloor.data.functions import lattice_points


def ball(radius, side=24):
    points = 2 * lattice_points(side, side, side) - 1
    field = 0.5 + 2 * (radius - np.linalg.norm(points, axis=1))
    return np.clip(field, 0, 1).reshape(side, side, side)


@pytest.mark.parametrize("view", [(0, 0), (35, 25), (120, -40)])
def test_a_ball_is_a_disc_of_its_radius_from_everywhere(view):
    size, radius = 60, 0.7
    seen = (isosurface.picture(ball(radius), size, view) < 250).any(-1)
    expected = np.pi * (radius / (2 * isosurface.AHEAD) * size) ** 2
    assert seen.sum() == pytest.approx(expected, rel=0.06)
    assert np.abs(np.argwhere(seen).mean(0) - (size - 1) / 2).max() < 0.6


def test_the_hit_is_on_the_surface():
    axes = np.stack(isosurface._axes((35, 25)))
    assert np.allclose(axes @ axes.T, np.eye(3))
    field = np.pad(ball(0.6).astype(np.float32), 2)
    hit, points = isosurface._seen(field, axes, np.linspace(-1, 1, 20))
    assert hit.sum() == len(points) > 50
    assert np.abs(np.linalg.norm(points, axis=1) - 0.6).max() < 0.03
    assert (points @ axes[2] > -0.05).all()  # the near side


def test_up_is_up_and_the_light_comes_from_above():
    field = np.zeros((16, 16, 16))
    field[:, :, 11:] = 1
    shown = isosurface.picture(field, 40, (0, 0)).astype(int)
    dark = (shown < 250).any(-1)
    assert dark[:18].any() and not dark[22:].any()
    shown = isosurface.picture(ball(0.8), 40, (0, 0)).astype(int)
    assert shown[12, 20].sum() > shown[28, 20].sum()


def test_nothing_is_white():
    assert (isosurface.picture(np.zeros((8, 8, 8)), 10) == 255).all()
    assert isosurface.turntable(ball(0.5, 8), 8, 3).shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    "modality, lattice",
    [
        ("voxels", (8, 8, 8)),
        ("sphere", (6, 12)),
        ("sound", (300,)),
        ("sound", (40,)),
        ("video", (3, 8, 9)),
        ("functions", (7,)),
        ("functions", (6, 5)),
        ("functions", (4, 5, 6)),
    ],
)
def test_every_lattice_has_its_picture(tmp_path, modality, lattice):
    values = np.random.default_rng(0).random((2, np.prod(lattice), 1), np.float32)
    rows = {"truth": (255 * values).astype(np.uint8), "functa\nPSNR 9.0 dB": values}
    path = tmp_path / "a.png"
    assert pictures.draw(path, modality, lattice, rows)
    assert np.asarray(Image.open(path)).std() > 5
    moving = modality in ("video", "voxels")
    assert pictures.animate(path.with_suffix(".gif"), modality, lattice, rows) == moving
    if moving:
        frames = Image.open(path.with_suffix(".gif")).n_frames
        assert frames == (4 if modality == "video" else 2 * pictures.TURN - 2)


def test_what_has_no_picture(tmp_path):
    values = np.zeros((2, 16, 1))
    assert not pictures.draw(tmp_path / "a.png", "functions", None, {"truth": values})
    assert not pictures.draw(tmp_path / "a.png", "functions", (2, 2, 2, 2), {"truth": values})
    assert not list(tmp_path.iterdir())


def test_a_row_says_how_good_it_is():
    assert pictures.described("PCA", "IoU", "", np.array([0.5, 1])) == "PCA\nIoU 0.750"
    assert pictures.described("PCA", "PSNR", "dB", np.array([20, 30])) == "PCA\nPSNR 25.0 dB"
