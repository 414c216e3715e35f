"""Cameras around a scene, and the rays of their pixels: NumPy, no JAX.

Conventions of DeepMind's functa (minimal_nerf.py): a pose is the (4, 4) matrix from camera to world
coordinates; a camera looks along its -z, with x to the right and y up; the ray of a pixel leaves
through its centre with a direction of length 1 along the camera's axis, not normalised.
The defaults have the sizes of SRN cars: cameras 1.3 from the middle, in a ball around which the
scene lies within 0.5.
"""

import numpy as np

DISTANCE = 1.3
FOCAL = 131.25 / 128  # focal length of SRN cars, in widths of a picture


def look_at(positions, target=(0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0)):
    """Poses float64 (n, 4, 4) of cameras at positions (n, 3) that look at a point, `up` upwards.

    The axes are orthonormal. A camera straight above or below has its picture's top towards +y.
    """
    positions = np.asarray(positions, np.float64)
    back = positions - target
    back /= np.linalg.norm(back, axis=-1, keepdims=True)
    right = np.cross(up, back)
    steep = np.linalg.norm(right, axis=-1) < 1e-6
    right[steep] = np.cross((0.0, 1.0, 0.0), back[steep])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(back, right), back], -1)
    poses[:, :3, 3] = positions
    return poses


def spiral(views, lowest=-0.25, highest=0.85, distance=DISTANCE):
    """Positions (views, 3) on a sphere, evenly spread between two heights (sines of the elevation):
    a Fibonacci lattice, from the top down."""
    place = (np.arange(views) + 0.5) / views
    height = highest + (lowest - highest) * place
    angle = np.pi * (3 - 5**0.5) * np.arange(views)
    ring = np.sqrt(1 - height**2)
    return distance * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], -1)


def turntable(views, elevation=0.35, distance=DISTANCE):
    """Positions (views, 3) on a circle, once around; elevation: in radians above the horizon."""
    angle = 2 * np.pi * np.arange(views) / views
    ring, height = distance * np.cos(elevation), distance * np.sin(elevation)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), np.full(views, height)], -1)


def seen_from(rays, side):
    """(distance, focal) of the cameras of rays (..., 6), of square pictures of so many pixels: how
    far from the middle they are, the median, and their focal length in widths of a picture."""
    corner = 0.5 - 0.5 / side
    distance = np.median(np.linalg.norm(rays[..., :3], axis=-1))
    # Of directions (x, y, -1), however they are turned, that of a corner is the longest.
    longest = np.square(rays[..., 3:], dtype=np.float64).sum(-1).max()
    return float(distance), float(corner * np.sqrt(2 / (longest - 1)))


def rays(poses, side, focal=FOCAL):
    """Rays float32 (n, side * side, 6) = origin, direction, of square pictures, row by row.

    poses (n, 4, 4); focal: in widths of the picture.
    """
    poses = np.asarray(poses, np.float64)
    across = ((np.arange(side) + 0.5) / side - 0.5) / focal
    right, down = np.meshgrid(across, across)
    inside = np.stack([right, -down, -np.ones_like(right)], -1).reshape(-1, 3)
    directions = inside @ poses[:, :3, :3].transpose(0, 2, 1)
    origins = np.broadcast_to(poses[:, None, :3, 3], directions.shape)
    return np.concatenate([origins, directions], -1).astype(np.float32)
