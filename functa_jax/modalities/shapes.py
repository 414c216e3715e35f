"""Solids as implicit functions: sixteen families of four kinds each, computed, without meshes.

A family is a function of x, y, z (arrays of one shape) and a kind, 0 to 3; its value is negative
inside and grows with the distance from the surface, which it need not equal. Superellipsoids and
supertoroids are those of Barr (1981), "Superquadrics and angle-preserving transformations".
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

KINDS = 4  # of each family


# ---- families ----


def superellipsoid(x, y, z, kind):
    """Ball, rounded cube, cylinder, octahedron."""
    vertical, around = ((1.0, 1.0), (0.2, 0.2), (0.2, 1.0), (2.0, 2.0))[kind]
    ring = (np.abs(x) ** (2 / around) + np.abs(y) ** (2 / around)) ** (around / vertical)
    return (ring + np.abs(z) ** (2 / vertical)) ** (vertical / 2) - 1


def drilled(x, y, z, kind):
    """A rounded cube with one, two or three crossing holes, and a pipe."""
    holes = [np.hypot(x, y), np.hypot(y, z), np.hypot(z, x)][: kind + 1 if kind < 3 else 1]
    solid = superellipsoid(x, y, z, 1 if kind < 3 else 2)
    return np.maximum(solid, 0.6 - np.minimum.reduce(holes))


def torus(x, y, z, kind):
    """Rings, from a thin one to a thick one."""
    tube = (0.22, 0.3, 0.38, 0.46)[kind]
    return np.hypot(np.hypot(x, y) - (1 - tube), z) - tube


def gear(x, y, z, kind):
    """Wheels of 5, 7, 9 and 12 teeth, with a bore."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rim = 0.8 + 0.2 * np.clip(3 * np.cos((5, 7, 9, 12)[kind] * angle), -1, 1)
    return np.maximum(np.maximum(radius - rim, 0.25 - radius), np.abs(z) - 0.3)


def star(x, y, z, kind):
    """Stars of 3 to 6 points, extruded."""
    turn = np.arctan2(y, x) * (3 + kind) / (2 * np.pi) % 1
    rim = 0.4 + 0.6 * np.abs(2 * turn - 1)
    return np.maximum(np.hypot(x, y) - rim, np.abs(z) - 0.3)


def cross(x, y, z, kind):
    """3 to 6 arms from one point: T, plus, and with one or two more."""
    arms = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    return tube(x, y, z, segments([(0 * arm, arm) for arm in arms[: 3 + kind]]), 0.3)


def helix(x, y, z, kind):
    """A spring of 1, 1.5, 2 and 3 turns."""
    course = np.linspace(-1, 1, 200)
    angle = np.pi * (1, 1.5, 2, 3)[kind] * course
    curve = np.stack([0.8 * np.cos(angle), 0.8 * np.sin(angle), course], -1)
    return tube(x, y, z, curve, 0.25)


def prism(x, y, z, kind):
    """Columns with 3 to 6 sides."""
    return np.maximum(polygon(x, y, 3 + kind) - 0.5, np.abs(z) - 1)


def pyramid(x, y, z, kind):
    """Pyramids with 3, 4 and 6 sides, and a cone."""
    across = np.hypot(x, y) if kind == 3 else polygon(x, y, (3, 4, 6)[kind])
    return np.maximum(across - 0.45 * (1 - z), -0.9 - z)


def beads(x, y, z, kind):
    """A ring of 3 to 6 balls."""
    angle = 2 * np.pi * np.arange(3 + kind) / (3 + kind)
    centres = np.stack([0.75 * np.cos(angle), 0.75 * np.sin(angle), 0 * angle], -1)
    return tube(x, y, z, centres, (0.6, 0.5, 0.45, 0.4)[kind])


def frame(x, y, z, kind):
    """Edges of a tetrahedron, a cube, an octahedron and a triangular prism."""
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    around = 2 * np.pi * np.arange(3) / 3
    triangle = np.stack([np.cos(around), np.sin(around)], -1)
    corners = (
        signs[signs.prod(1) > 0],
        signs,
        np.concatenate([np.eye(3), -np.eye(3)]),
        np.concatenate([np.insert(triangle, 2, height, 1) for height in (-0.85, 0.85)]),
    )[kind] / (np.sqrt(3), np.sqrt(3), 1, 1.3)[kind]
    apart = np.linalg.norm(corners[:, None] - corners, axis=-1)
    longest = {3: 1.4}.get(kind, 1.01 * apart[apart > 0].min())
    pairs = np.argwhere(np.triu((apart > 0) & (apart < longest)))
    return tube(x, y, z, segments(corners[pairs]), 0.18)


def table(x, y, z, kind):
    """A top on 1 to 4 legs."""
    angle = 2 * np.pi * np.arange(kind + 1) / (kind + 1) + np.pi / 4
    reach = 0.7 if kind else 0.0
    legs = [np.hypot(x - reach * np.cos(a), y - reach * np.sin(a)) - 0.25 for a in angle]
    legs = np.maximum(np.minimum.reduce(legs), np.abs(z) - 0.8)
    return np.minimum(legs, box(x, y, z, (0, 0, 0.7), (0.85, 0.85, 0.18)))


def stairs(x, y, z, kind):
    """2 to 5 steps."""
    steps = 2 + kind
    height = 2 * np.ceil((x + 1) / 2 * steps) / steps - 1
    inside = np.maximum(np.abs(x) - 1, np.abs(y) - 0.6)
    return np.maximum(inside, np.maximum(z - height, -1 - z))


def supertorus(x, y, z, kind):
    """Rings of square section: a washer, a square one, a square one of round section; and a round
    one of a section like a diamond."""
    across = np.maximum(np.abs(x), np.abs(y)) if kind in (1, 2) else np.hypot(x, y)
    off, up = np.abs(across - 0.72), np.abs(z)
    section = (np.maximum(off, up), np.maximum(off, up), np.hypot(off, up), 0.7 * (off + up))[kind]
    return section - 0.25


def letter(x, y, z, kind):
    """L, T, U and Z of cubes."""
    cells = (
        [(-1, 2), (-1, 1), (-1, 0), (0, 0), (1, 0)],
        [(-1, 2), (0, 2), (1, 2), (0, 1), (0, 0)],
        [(-1, 2), (-1, 1), (-1, 0), (0, 0), (1, 0), (1, 1), (1, 2)],
        [(-1, 2), (0, 2), (0, 1), (0, 0), (1, 0)],
    )[kind]
    side = 0.27  # half of a cell's
    boxes = [
        box(x, y, z, (2 * side * a, 2 * side * (b - 1), 0), (1.01 * side, 1.01 * side, side))
        for a, b in cells
    ]
    return np.minimum.reduce(boxes)


def knot(x, y, z, kind):
    """Torus knots: trefoil, (2, 5) and (3, 4); and two rings in each other."""
    t = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    if kind == 3:
        across, up = 0.6 * np.cos(t), 0.6 * np.sin(t)
        first = np.stack([across + 0.3, up, 0 * t], -1)
        curve = np.concatenate([first, np.stack([across - 0.3, 0 * t, up], -1)])
    else:
        long, short = ((2, 3), (2, 5), (3, 4))[kind]
        radius = 0.65 + 0.3 * np.cos(short * t)
        height = 0.45 * np.sin(short * t)
        curve = np.stack([radius * np.cos(long * t), radius * np.sin(long * t), height], -1)
    return tube(x, y, z, curve, 0.18)


FAMILIES = (
    superellipsoid,
    drilled,
    torus,
    gear,
    star,
    cross,
    helix,
    prism,
    pyramid,
    beads,
    frame,
    table,
    stairs,
    supertorus,
    letter,
    knot,
)
CLASSES = KINDS * len(FAMILIES)


# ---- what they are made of ----


def polygon(x, y, sides):
    """Distance from the axis, measured across the sides of a regular polygon."""
    angle = 2 * np.pi * np.arange(sides) / sides
    return np.maximum.reduce([x * np.cos(a) + y * np.sin(a) for a in angle])


def box(x, y, z, centre, half):
    """A box of half lengths `half`."""
    faces = [np.abs(a - c) - h for a, c, h in zip((x, y, z), centre, half, strict=True)]
    return np.maximum.reduce(faces)


def segments(ends):
    """Points (m, 3) along lines between pairs of ends (k, 2, 3), 0.05 apart or less."""
    share = np.linspace(0, 1, 40)[:, None]
    return np.concatenate([a + share * (b - a) for a, b in np.asarray(ends, float)])


def tube(x, y, z, curve, radius):
    """All within `radius` of points (m, 3)."""
    points = np.stack([x, y, z], -1)
    distance, _ = cKDTree(curve).query(points, distance_upper_bound=2 * radius)  # inf beyond
    return np.minimum(distance, 2 * radius).astype(x.dtype) - np.float32(radius)


# ---- one solid in its place ----


@dataclass(frozen=True, eq=False)
class Solid:
    """A shape with a pose: inside the ball of radius `scale` about `shift`, in [-1, 1]^3.

    label: 0 to CLASSES - 1; stretch: factors (3,), at most 1, along its own axes.
    """

    label: int
    rotation: Rotation
    scale: float = 0.9
    shift: np.ndarray = (0.0, 0.0, 0.0)
    stretch: np.ndarray = (1.0, 1.0, 1.0)

    def __call__(self, points):
        """Negative inside, for points (..., 3): float32 (...); a constant outside of the ball."""
        centre, radius = _extent(self.label)
        own = np.asarray(points, np.float32) - np.float32(self.shift)
        near = np.linalg.norm(own, axis=-1) < self.scale
        matrix = self.rotation.as_matrix() * self.stretch / radius * self.scale
        own = own[near] @ np.linalg.inv(matrix).T.astype(np.float32) + np.float32(centre)
        values = np.ones(near.shape, np.float32)
        values[near] = _family(self.label)(own[:, 0], own[:, 1], own[:, 2])
        return values


def posed(label, random, turn=np.pi):
    """A Solid of a class in a random pose.

    turn: the largest angle, in radians, by which it is turned about a random axis.
    """
    axis = random.standard_normal(3)
    rotation = Rotation.from_rotvec(random.uniform(0, turn) * axis / np.linalg.norm(axis))
    scale = random.uniform(0.75, 1)
    direction = random.standard_normal(3)
    shift = direction / np.linalg.norm(direction) * random.uniform(0, 1) * (1 - scale)
    return Solid(label, rotation, scale, shift, random.uniform(0.8, 1, 3))


def _family(label):
    return partial(FAMILIES[label // KINDS], kind=label % KINDS)


@cache
def _extent(label):
    """Middle (3,) and radius of the smallest ball about the middle of a shape's bounding box."""
    axis = np.linspace(-1.8, 1.8, 60, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    inside = points[_family(label)(points[:, 0], points[:, 1], points[:, 2]) < 0]
    centre = (inside.min(0) + inside.max(0)) / 2
    return centre, float(np.linalg.norm(inside - centre, axis=1).max() + (axis[1] - axis[0]))
