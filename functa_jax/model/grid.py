"""Pixels and cells on a square: where they are, what is around them, what lies between."""

import jax.numpy as jnp


def coordinate_grid(height, width=None):
    """Pixel centres of an image in [0, 1]^2, (row, column) order: float32 (height * width, 2)."""
    sides = [(jnp.arange(n, dtype=jnp.float32) + 0.5) / n for n in (height, width or height)]
    return jnp.stack(jnp.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)


def neighbours(grid, size):
    """Each cell with those around it: (r, c, L) -> (r, c, size*size*L), zeros beyond the border.

    A linear map of the result is a convolution with a (size, size) kernel.
    """
    if size == 1:
        return grid
    (rows, columns, _), margin = grid.shape, size // 2
    padded = jnp.pad(grid, [(margin, margin), (margin, margin), (0, 0)])
    shifts = [(i, j) for i in range(size) for j in range(size)]
    return jnp.concatenate([padded[i : i + rows, j : j + columns] for i, j in shifts], axis=-1)


def hat_weights(x, s):
    """Weights (N, s) of s cells for linear interpolation at x (N,) in [0, 1]; rows sum to 1.

    Beyond the centres of the outer cells these have all the weight.
    """
    place = jnp.clip(x * s - 0.5, 0, s - 1)
    return jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(s)))
