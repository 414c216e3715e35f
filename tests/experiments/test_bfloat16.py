"""experiments.bfloat16 rounds what it says, and nothing stays rounded afterwards."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments import bfloat16
from functa_jax.model import siren
from groundfloor import cli

RANDOM = np.random.default_rng(0)
A, B = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((5, 7), (7, 3)))
DIMENSIONS = (((1,), (0,)), ((), ()))


def test_one_product_is_that_of_bfloat16_operands():
    found = bfloat16.one_product(A, B, DIMENSIONS, precision=None)
    a, b = (np.float64(jnp.asarray(x, jnp.bfloat16)) for x in (A, B))
    np.testing.assert_allclose(found, a @ b, rtol=1e-6, atol=1e-6)


def test_three_products_are_nearly_exact():
    exact = np.float64(A) @ np.float64(B)
    errors = [
        np.abs(product(A, B, DIMENSIONS) - exact).max()
        for product in (bfloat16.one_product, bfloat16.three_products)
    ]
    assert errors[0] > 1e-3 and errors[1] < 1e-2 * errors[0]


def test_derivatives_are_rounded_too():
    def loss(a):
        return bfloat16.one_product(a, B, DIMENSIONS).sum()

    rounded = np.float64(jnp.asarray(B, jnp.bfloat16)).sum(1)
    found = jax.grad(loss)(A)
    np.testing.assert_allclose(found, np.tile(rounded, (5, 1)), rtol=2**-8)
    assert (np.asarray(found) == np.asarray(bfloat16.rounded(found))).all()


@pytest.mark.slow
def test_products_are_changed_within_and_only_there():
    config = siren.ModelConfig(1, 8, 3, 4)
    params = siren.init(config, 0)
    coords, latent = RANDOM.random((6, 2), np.float32), RANDOM.random(4, np.float32)

    def colours():
        return np.asarray(siren.with_params(config, params)(coords, latent))

    before = colours()
    with bfloat16.products(bfloat16.one_product):
        changed = colours()
    with bfloat16.products(lax.dot_general):
        np.testing.assert_array_equal(colours(), before)
    np.testing.assert_array_equal(colours(), before)
    assert 1e-5 < np.abs(changed - before).max() < 0.3


@pytest.mark.slow
def test_a_small_job(tmp_path):
    flags = ["digits", "--steps", 20, "--seeds", 0, "--out", tmp_path, "--results", tmp_path]
    args = [str(flag) for flag in flags]
    cli.run(bfloat16.main, bfloat16.Config, bfloat16.PRESETS, args=args)
    rows = json.loads((tmp_path / "bfloat16_digits.json").read_text())["rows"]
    plain, one, three = (row["gradient_error"] for row in rows)
    assert plain < three < one < 0.5 and plain < 1e-4
    assert rows[0]["minus_float32"]["mean"] == 0
