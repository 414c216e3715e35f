"""Fields on a sphere: random ones with a power law, as of relief or climate, and what they weigh.

The wheels among the requirements hold no global field (matplotlib's topobathy.npz is two degrees of
Canada's coast), so that fields are drawn: real spherical harmonics with independent normal
coefficients of variance l^-p, whose law no rotation changes. Earth's relief has p near 3, the power
of a whole degree falling like l^-2 (Vening Meinesz 1951).

Coordinates are unit vectors, float32 (N, 3), at the centres of a lattice of equal steps in latitude
and longitude, from the north pole on; its cells have areas like cos(latitude).
"""

import numpy as np
from scipy.special import sph_harm_y_all

from functa_jax.modalities import sets
from groundfloor.errors import UserError

EXPONENTS = (2.0, 2.5, 3.0, 3.5, 4.0)  # of the power law: the classes, from rough to smooth
DEGREES = 24  # the highest one of the fields


def load(data_dir=None, images=None, count=2500, lattice=(32, 64), relief=True, seed=0):
    """A FunctionSet of `count` fields, classes EXPONENTS; 70 % are train, 10 % val, 20 % test.

    images: at most this many of each split. lattice: (latitudes, longitudes). relief: what a field
    of unit variance becomes, `hypsometry`; without it 0.5 + field / 8, cut to [0, 1]. Values are
    float32. data_dir is not needed.
    """
    height, width = lattice
    if min(lattice) < 4 or count < 10 * len(EXPONENTS):
        raise UserError(
            f"sphere: {count} fields on {height}x{width} points; at least {10 * len(EXPONENTS)} "
            "fields on 4x4 points are needed"
        )
    random = np.random.default_rng(seed)
    coords = directions(height, width)
    degrees = min(DEGREES, height - 1)
    labels = np.arange(count) % len(EXPONENTS)
    spread = spectrum(np.array(EXPONENTS), degrees)[labels]
    coefficients = spread * random.standard_normal(spread.shape)
    fields = (coefficients @ harmonics(coords, degrees).T).astype(np.float32)
    values = hypsometry(fields) if relief else np.clip(0.5 + fields / 8, 0, 1)
    parts = sets.stratified(labels)
    return sets.gathered(
        "sphere", "sphere", values[..., None], coords, labels, parts, tuple(lattice), images
    )


def spectrum(exponents, degrees):
    """Standard deviations (k, (degrees + 1)^2) of coefficients, in the order of `harmonics`.

    A field has variance 1 at every point, l^-p (2 l + 1) of it in degree l, and no mean.
    """
    degree = np.repeat(np.arange(degrees + 1), 2 * np.arange(degrees + 1) + 1).astype(float)
    variances = np.where(degree > 0, np.maximum(degree, 1) ** -exponents[:, None], 0)
    return np.sqrt(variances * 4 * np.pi / variances.sum(1, keepdims=True))


def hypsometry(fields):
    """Relief in [0, 1] of fields of unit variance: flat sea floors and lands, steep coasts between.

    As on Earth, where heights have two modes; the coast is at 0.5 and 40 % of the area is land.
    """
    return (0.5 + 0.35 * np.tanh(3 * (fields - 0.25)) + 0.04 * np.clip(fields, -3.5, 3.5)).astype(
        np.float32
    )


# ---- geometry ----


def directions(height, width):
    """Unit vectors, float32 (height * width, 3), in C order: latitudes from the north."""
    latitude, longitude = _angles(height, width)
    vectors = [
        np.cos(latitude)[:, None] * np.cos(longitude),
        np.cos(latitude)[:, None] * np.sin(longitude),
        np.broadcast_to(np.sin(latitude)[:, None], (height, width)),
    ]
    return np.stack(vectors, -1).reshape(-1, 3).astype(np.float32)


def areas(lattice):
    """Shares of the sphere's area, float32 (N,), of the cells of a lattice; their sum is 1.

    A cell between two circles of latitude has an area like the difference of their sines (which is
    like cos(latitude) of its middle: exactly so on a lattice of equal steps).
    """
    height, width = lattice
    rows = np.cos(_angles(height, width)[0])
    return np.repeat(rows / rows.sum() / width, width).astype(np.float32)


def _angles(height, width):
    latitude = np.pi / 2 - np.pi * (np.arange(height) + 0.5) / height
    return latitude, 2 * np.pi * (np.arange(width) + 0.5) / width


def harmonics(vectors, degrees):
    """Real spherical harmonics (N, (degrees + 1)^2), orthonormal on the unit sphere.

    Of degree l = 0, 1, ..., degrees; of each, orders -l to l: sines, then cosines. vectors (N, 3).
    """
    x, y, z = np.asarray(vectors, np.float64).T
    polar, azimuth = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    waves = sph_harm_y_all(degrees, degrees, polar, azimuth)  # (l, m, N), negative m at the end
    columns = []
    for degree in range(degrees + 1):
        for order in range(-degree, degree + 1):
            wave = waves[degree, abs(order)]
            part = wave.imag if order < 0 else wave.real
            columns.append(part if order == 0 else (-1) ** order * np.sqrt(2) * part)
    return np.stack(columns, -1)
