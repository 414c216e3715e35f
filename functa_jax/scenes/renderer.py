"""A small renderer of implicit functions, NumPy alone.

A solid, such as those of `modalities.shapes`, stands in the middle of a white room. Rays march
through a lattice of its implicit function, by the distance to the nearest matter where that is far
and in short steps where it is near (sphere tracing, Hart 1996). Matter has one colour and Lambert's
shading, so that a point looks the same from all sides. A pixel is the mean of 2 x 2 rays.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from functa_jax.scenes import cameras

RADIUS = 0.5  # of the ball that solids, made for one of radius 1, are brought into
LATTICE = 48  # points a side of the implicit function
FINE = 2  # rays a pixel's side
LIGHT = np.array([0.45, 0.3, 0.84])  # towards it, length 1
AMBIENT = 0.35


class Body:
    """A solid ready for rays: its function and the distance to its surface on a lattice.

    solid: function of points (..., 3) in [-1, 1]^3, negative inside; colour (3,) in [0, 1].
    """

    def __init__(self, solid, colour, lattice=LATTICE):
        axis = np.linspace(-1, 1, lattice, dtype=np.float32)
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
        self.colour, self.spacing = np.asarray(colour), 2 * RADIUS / (lattice - 1)
        self.values = np.clip(solid(grid), -0.2, 0.2)
        self.distance = np.float32(distance_transform_edt(self.values > 0)) * self.spacing
        self.slopes = np.stack(np.gradient(self.values))

    def function(self, points):
        """Of points (n, 3) of the scene, negative inside, linear between the lattice's."""
        return map_coordinates(self.values, self._places(points), order=1, mode="nearest")

    def normals(self, points):
        """Of the surface at points (n, 3), length 1."""
        places = self._places(points)
        slope = [map_coordinates(s, places, order=1, mode="nearest") for s in self.slopes]
        slope = np.stack(slope, -1)
        return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-9)

    def apart(self, points):
        """How far points (n, 3) are from matter, at least: less what the lattice leaves open."""
        places = np.rint(self._places(points)).astype(np.intp)
        i, j, k = np.clip(places, 0, len(self.values) - 1)
        return self.distance[i, j, k] - 1.5 * self.spacing

    def _places(self, points):
        return ((points + RADIUS) / self.spacing).T


def colours_of(body, rays):
    """Colours (n, 3) in [0, 1] of rays (n, 6) = origin, direction; white of those that miss."""
    colours = np.ones((len(rays), 3))
    rows, points = _hits(body, rays)
    light = np.maximum(body.normals(points) @ LIGHT, 0)
    shade = AMBIENT + (1 - AMBIENT) * light
    colours[rows] = shade[:, None] * body.colour
    return colours


def _hits(body, rays):
    """The rays (rows) that meet the body, and where, (rows, 3)."""
    origin, direction = np.float32(rays[:, :3]), np.float32(rays[:, 3:])
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    # Where rays enter and leave the ball around the scene.
    middle = -(origin * direction).sum(-1)
    half = RADIUS**2 - (origin**2).sum(-1) + middle**2
    rows = np.flatnonzero(half > 0)
    half = np.sqrt(half[rows])
    t, end = middle[rows] - half, middle[rows] + half
    short = body.spacing
    met, places = [], []
    while len(rows):
        points = origin[rows] + t[:, None] * direction[rows]
        step = np.maximum(body.apart(points), short)
        near = np.flatnonzero(step == short)
        inside = near[body.function(points[near]) < 0]
        met.append(rows[inside])
        places.append(_refined(body, points[inside], direction[rows[inside]], short))
        t = t + step
        on = t < end
        on[inside] = False
        rows, t, end = rows[on], t[on], end[on]
    return np.concatenate(met), np.concatenate(places)


def _refined(body, points, direction, step):
    """Points (n, 3) just inside, brought to the surface by halving the last step before them."""
    low, high = np.full(len(points), -step, np.float32), np.zeros(len(points), np.float32)
    for _ in range(5):
        middle = (low + high) / 2
        inside = body.function(points + middle[:, None] * direction) < 0
        low, high = np.where(inside, low, middle), np.where(inside, middle, high)
    return points + high[:, None] * direction


def pictures(body, poses, side):
    """Views uint8 (n, side, side, 3) of a body from cameras with these poses (n, 4, 4)."""
    rays = cameras.rays(poses, FINE * side)
    fine = colours_of(body, rays.reshape(-1, 6)).reshape(len(poses), side, FINE, side, FINE, 3)
    return np.rint(255 * fine.mean((2, 4))).astype(np.uint8)
