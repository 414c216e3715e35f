"""Pictures of images or of other functions, for tasks that need not know which they have."""

import numpy as np

from functa_jax.images.gallery import gallery
from functa_jax.modalities import isosurface, pictures

SIZE = 64  # pixels of a solid in a film


def draw(material, path, rows, size=0.8):
    """Write a picture of {name: values (m, ...)}, floats in [0, 1]: images, or functions at the
    points of training. size: as of `gallery`. Returns [the file's name], [] where such functions
    have no picture."""
    functa = material.functa
    if functa.of_images:
        gallery(path, rows, size=size)
        return [path.name]
    flat = {name: as_points(functa, values) for name, values in rows.items()}
    drawn = pictures.draw(path, functa.config.modality, functa.resolution, flat)
    return [path.name] * drawn


def as_points(functa, values):
    """Values of functions (n, ...) as (n, N, C)."""
    return np.reshape(values, (len(values), -1, functa.config.channels))


def films(functa, values):
    """Functions (m, frames, ...) as pictures (m, frames, h, w, C) in [0, 1]: images, shaded solids,
    what lies on a lattice of two dimensions; None where one function is no one picture."""
    if functa.of_images:
        return values
    lattice = functa.resolution or ()
    if functa.config.modality == "voxels":
        fields = values.reshape(-1, *lattice)
        shown = np.stack([isosurface.picture(field, SIZE) for field in fields]) / np.float32(255)
        return shown.reshape(*values.shape[:2], *shown.shape[1:])
    if len(lattice) == 2:
        return values.reshape(*values.shape[:2], *lattice, functa.config.channels)
    return None
