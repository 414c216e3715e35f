"""Fields on a sphere: harmonics are orthonormal, areas sum to one, the power law is met."""

import numpy as np
import pytest

from functa_jax.modalities import rivals, sphere
from groundfloor.errors import UserError

LATTICE = (24, 48)


def test_harmonics_are_orthonormal_under_the_areas():
    basis = sphere.harmonics(sphere.directions(90, 180), 5)
    gram = basis.T @ (4 * np.pi * sphere.areas((90, 180))[:, None] * basis)
    assert np.allclose(gram, np.eye(36), atol=5e-4)


def test_the_first_harmonics_are_one_and_the_coordinates():
    vectors = sphere.directions(*LATTICE)
    basis = sphere.harmonics(vectors, 1)
    assert np.allclose(basis[:, 0], np.sqrt(1 / (4 * np.pi)))
    # in the order y, z, x, all with the factor sqrt(3 / 4 pi)
    assert np.allclose(basis[:, 1:], np.sqrt(3 / (4 * np.pi)) * vectors[:, [1, 2, 0]], atol=1e-6)


def test_harmonics_obey_the_addition_theorem():
    vectors = np.random.default_rng(0).standard_normal((2, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b = sphere.harmonics(vectors, 6)
    cosine = vectors[0] @ vectors[1]
    for degree in range(7):
        own = slice(degree**2, (degree + 1) ** 2)
        legendre = np.polynomial.legendre.legval(cosine, np.eye(7)[degree])
        assert a[own] @ b[own] == pytest.approx((2 * degree + 1) / (4 * np.pi) * legendre)


def test_directions_are_unit_vectors_and_areas_those_between_circles():
    vectors, shares = sphere.directions(*LATTICE), sphere.areas(LATTICE)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    edges = np.sin(np.pi / 2 - np.pi * np.arange(25) / 24)
    assert np.allclose(shares.reshape(LATTICE).sum(1), -np.diff(edges) / 2, atol=1e-6)
    assert np.allclose(shares @ vectors, 0, atol=1e-6)


def test_spectra_follow_their_power_law_with_variance_one():
    for exponent, spread in zip((1.5, 3.0), sphere.spectrum(np.array([1.5, 3.0]), 8), strict=True):
        degree = np.repeat(np.arange(9), 2 * np.arange(9) + 1)
        assert (spread**2).sum() == pytest.approx(4 * np.pi) and spread[0] == 0
        slope = np.log(spread[degree == 8][0] / spread[degree == 2][0]) / np.log(4)
        assert slope == pytest.approx(-exponent / 2)


def test_fields_have_the_variance_and_the_law_of_their_class():
    data = sphere.load(count=500, lattice=LATTICE, relief=False)
    fields = 8 * (data.train.values[..., 0] - 0.5)
    areas = sphere.areas(LATTICE)
    assert ((fields**2) @ areas).mean() == pytest.approx(1, abs=0.05)
    basis = sphere.harmonics(data.train.coords, 4)
    for label, exponent in ((0, 2.0), (4, 4.0)):
        coefficients = 4 * np.pi * (fields[data.train.labels == label] * areas) @ basis
        power = (coefficients**2).mean(0)
        first, third = power[1:4].mean(), power[9:16].mean()
        assert np.log(first / third) / np.log(3) == pytest.approx(exponent, abs=0.25)


def test_relief_is_in_the_unit_interval_and_has_two_modes():
    data = sphere.load(count=100, lattice=(8, 16))
    assert data.num_classes == 5 and data.train.values.dtype == np.float32
    assert data.train.values.min() >= 0 and data.train.values.max() <= 1
    counts, _ = np.histogram(data.train.values, bins=5, range=(0, 1))
    assert counts[2] < min(counts[:2].max(), counts[3:].max())


def test_a_smooth_field_is_rebuilt_exactly_from_its_harmonics():
    data = sphere.load(count=60, lattice=LATTICE, relief=False)
    name, rebuild = next(iter(rivals.of(data, 625).items()))
    assert name == "spherical harmonics to degree 24"
    inside = (np.abs(data.test.values - 0.5) < 0.5).all((1, 2))  # cut nowhere
    assert np.allclose(rebuild(data.test)[inside], data.test.values[inside], atol=1e-3)


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="are needed"):
        sphere.load(count=10)
