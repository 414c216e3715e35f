"""Shaded pictures of volumes: the surface where a field on a cube passes one half.

Rays are followed to the first crossing, between points a voxel or less apart, which is what the
triangles of marching cubes (Lorensen and Cline 1987) approximate; shading is by the field's
gradient there. A picture takes a fraction of a second and needs no display.
"""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

VIEW = (35.0, 25.0)  # azimuth and elevation of the eye, degrees
LIGHT = np.array([0.35, 0.75, 0.55])  # right, up, towards the eye
SOLID = np.array([0.55, 0.70, 0.85])  # colour
AHEAD = 1.15  # half the picture's side; the cube's is 1
SMOOTHING = 0.7  # voxels: occupancies 0 and 1 have no gradient


def picture(field, size=128, view=VIEW):
    """uint8 RGB (size, size, 3) of a field (a, b, c) on [-1, 1]^3; c is up; white where it is not.

    Orthographic, every pixel the mean of four rays.
    """
    field = gaussian_filter(np.pad(np.asarray(field, np.float32), 2), SMOOTHING)
    axes = np.stack(_axes(view))  # right, up, towards the eye
    colours = np.ones((2 * size, 2 * size, 3))
    hit, points = _seen(field, axes, np.linspace(-AHEAD, AHEAD, 2 * size))
    slope = np.stack([_at(part, points) for part in np.gradient(field)], -1)
    outward = -slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)
    lit = np.maximum(0, outward @ (LIGHT @ axes / np.linalg.norm(LIGHT)))[:, None]
    behind = np.clip(-(points @ axes[2]), 0, 1)[:, None]
    colours[hit] = (0.3 + 0.7 * lit) * (1 - 0.25 * behind) * SOLID + 0.15 * lit**8
    smooth = colours.reshape(size, 2, size, 2, 3).mean((1, 3))
    return np.rint(255 * np.clip(smooth, 0, 1)).astype(np.uint8)


def _seen(field, axes, across):
    """(rays that hit, bool (m, m), rows from above; where, (k, 3)) of m x m rays at `across`.

    Only the box around what is solid, in the eye's directions, is searched.
    """
    hit = np.zeros((len(across), len(across)), bool)
    solid = np.argwhere(field >= 0.5)
    if not len(solid):
        return hit, np.empty((0, 3))
    sides = np.array(field.shape) - 4
    around = (2 * (solid - 1.5) / sides - 1) @ axes.T
    margin = 2 * np.sqrt(3) / sides.min()
    low, high = around.min(0) - margin, around.max(0) + margin
    columns = np.flatnonzero((across > low[0]) & (across < high[0]))
    rows = np.flatnonzero((-across > low[1]) & (-across < high[1]))
    plane = across[columns][None, :, None] * axes[0] - across[rows][:, None, None] * axes[1]
    plane = plane.reshape(-1, 3)
    depths = np.linspace(high[2], low[2], int((high[2] - low[2]) * sides.max() / 2) + 2)
    found, before = np.full(len(plane), np.nan), np.zeros(len(plane), np.float32)
    for step, depth in enumerate(depths):
        now = _at(field, plane + depth * axes[2])
        crosses = np.isnan(found) & (now >= 0.5)
        share = (now[crosses] - 0.5) / np.maximum(now[crosses] - before[crosses], 1e-6)
        found[crosses] = depth + share * (depths[max(step - 1, 0)] - depth)
        before = now
    seen = np.isfinite(found)
    hit[np.ix_(rows, columns)] = seen.reshape(len(rows), len(columns))
    return hit, plane[seen] + found[seen][:, None] * axes[2]


def turntable(field, size=96, frames=24, elevation=VIEW[1]):
    """uint8 (frames, size, size, 3): once around."""
    around = 360 * np.arange(frames) / frames
    return np.stack([picture(field, size, (azimuth, elevation)) for azimuth in around])


def _axes(view):
    """Unit vectors to the right, up and to the eye."""
    azimuth, elevation = np.radians(view)
    eye = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    return right, np.cross(eye, right), eye


def _at(field, points):
    """A padded field at points (..., 3) of [-1, 1]^3; 0 outside."""
    sides = np.array(field.shape) - 4
    places = (points + 1) / 2 * sides + 1.5  # two voxels of padding, centres at a half
    return map_coordinates(field, np.moveaxis(places, -1, 0), order=1, output=np.float32)
