"""The transform is undone, decorrelates, weighs errors as pictures do, and is PCA on pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from functa_jax.tasks.compression import transform

RANDOM = np.random.default_rng(0)


def correlated(n, cells, numbers):
    mixing = RANDOM.normal(size=(cells * cells * numbers,) * 2)
    rows = RANDOM.normal(size=(n, len(mixing))) @ mixing + 3
    return rows.reshape(n, cells, cells, numbers).astype(np.float32)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3))
def test_blocks_are_put_together_again(side, blocks, numbers, n):
    cells = side * blocks
    grids = np.arange(n * cells**2 * numbers).reshape(n, cells, cells, numbers)
    parts = transform.to_blocks(grids, side)
    assert parts.shape == (n, blocks, blocks, side * side * numbers)
    np.testing.assert_array_equal(transform.to_grids(parts, side), grids)
    if n:
        np.testing.assert_array_equal(parts[0, -1, 0], grids[0, -side:, :side].ravel())


@pytest.fixture(scope="module")
def fitted():
    grids, gradients = correlated(400, 4, 2), correlated(400, 4, 2) - 3
    return grids, gradients, transform.fit(grids, 2, gradients)


def test_coordinates_are_undone(fitted):
    grids, _, found = fitted
    np.testing.assert_allclose(found.undo(found.apply(grids)), grids, atol=2e-3)
    assert found.apply(grids).shape == (400, 2, 2, 8) and found.blocks == 2


def test_coordinates_are_uncorrelated_and_fall_in_variance(fitted):
    grids, _, found = fitted
    rows = found.apply(grids).reshape(-1, 8).astype(np.float64)
    moments = rows.T @ rows / len(rows)
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-4 * moments.max())
    assert (np.diff(np.diag(moments)) < 0).all()


def test_errors_of_all_coordinates_move_pictures_alike(fitted):
    """inverse M inverse' = 1: an error of one in any coordinate has the squared length of one."""
    _, gradients, found = fitted
    rows = transform.to_blocks(gradients, 2).reshape(-1, 8).astype(np.float64)
    moments = rows.T @ rows / len(rows)
    np.testing.assert_allclose(found.inverse @ moments @ found.inverse.T, np.eye(8), atol=1e-3)


def test_of_pixels_it_is_pca():
    grids = correlated(300, 2, 3)
    found, rows = transform.fit(grids, 2), grids.reshape(300, -1)
    pca = PCA().fit(rows)
    ours, theirs = found.apply(grids).reshape(300, -1), pca.transform(rows)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3 * np.abs(theirs).max())


def test_fewer_numbers_become_their_mean(fitted):
    grids, _, found = fitted
    few = found.first(3)
    coordinates = found.apply(grids)
    np.testing.assert_array_equal(few.apply(grids), coordinates[..., :3])
    coordinates[..., 3:] = 0
    np.testing.assert_allclose(few.undo(few.apply(grids)), found.undo(coordinates), atol=1e-4)
