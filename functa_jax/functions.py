"""What users give a Functa of other functions than images: values, coordinates, masks; checked."""

import numpy as np

from functa_jax.functa_file import sides_of
from functa_jax.images import signals
from functa_jax.modalities.modality import refuse_outside
from functa_jax.training.samples import Samples, point_weights
from groundfloor.data.functions import lattice_points
from groundfloor.errors import UserError


def samples(functa, values, coords=None, mask=None):
    """The Samples of values (n, N, C), or (n, *lattice, C); C may be left out where it is 1.

    coords (N, d) or (n, N, d): default those of training, in whose order values then are; mask:
    bool (n, N). UserError, in one line, for what is not so.
    """
    config, points = functa.config, functa.coords if coords is None else _finite(functa, coords)
    if points is None:
        raise UserError("each of these functions has points of its own: give their coords")
    values = signals.checked(values, "values")
    shapes = [(points.shape[-2],)]
    if coords is None and functa.resolution is not None:
        shapes.append(functa.resolution)
    with_channels = [(*shape, config.channels) for shape in shapes]
    if config.channels == 1 and values.shape[1:] in shapes:
        values = values[..., None]
    if values.shape[1:] not in with_channels:
        wanted = " or ".join(map(str, with_channels))
        raise UserError(f"values have shape {values.shape[1:]}, not {wanted}")
    values = values.reshape(len(values), points.shape[-2], config.channels)
    if points.ndim == 3 and len(points) != len(values):
        raise UserError(f"there are coords of {len(points):,} functions, values of {len(values):,}")
    if mask is not None:
        mask = np.asarray(mask, bool)
        if mask.shape != values.shape[:2]:
            raise UserError(f"mask has shape {mask.shape}, not {values.shape[:2]}")
        if not mask.any(axis=1).all():
            raise UserError("mask leaves nothing of a function; at least one point must count")
    return Samples(values, points, point_weights(config.modality, points, mask))


def places(functa, count, resolution=None, coords=None):
    """Where `count` functions are to be decoded: (coords (M, d) or None, those (count, M, d) of
    each or None, sides of the result between latents and channels)."""
    if coords is not None:
        points = _finite(functa, coords)
        if points.ndim == 2:
            return points, None, points.shape[:1]
        if len(points) != count:
            raise UserError(f"there are coords of {len(points):,} functions, latents of {count:,}")
        return None, points, points.shape[1:2]
    if functa.coords is None:
        raise UserError("each of these functions has points of its own: give coords")
    if resolution is None:
        return functa.coords, None, functa.resolution or (len(functa.coords),)
    lattice = functa.resolution
    if lattice is None or not np.array_equal(functa.coords, lattice_points(*lattice)):
        raise UserError("these functions are not known on a lattice in [0, 1]^d: give coords")
    sides = sides_of(resolution, len(lattice))
    return lattice_points(*sides), None, sides


def _finite(functa, coords):
    """coords as float32 (M, d) or (n, M, d); UserError for other shapes, and for points where
    nothing was learnt."""
    inputs, coords = functa.config.inputs, np.asarray(coords, np.float32)
    if coords.ndim not in (2, 3) or coords.shape[-1] != inputs:
        raise UserError(f"coords have shape {coords.shape}, not (M, {inputs}) or (n, M, {inputs})")
    if 0 in coords.shape[-2:]:
        raise UserError("coords hold no points")
    if not np.isfinite(coords).all():
        raise UserError("coords are not finite")
    refuse_outside(functa.config.modality, coords, "coords", functa.coords)
    return coords
