"""Products of bfloat16 operands: what they compute, and that derivatives are such products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from functa_jax.model import bfloat16

RANDOM = np.random.default_rng(0)
# A batch of one axis and two contracted ones, whose order differs in the operands.
DIMENSIONS = (((3, 1), (0, 2)), ((2,), (3,)))
SHAPES = (2, 3, 4, 5), (5, 2, 3, 4)
MATRICES = (((1,), (0,)), ((), ()))


def integers(shape, seed=0):
    """Floats that bfloat16 holds, of whom few products make sums that float32 holds."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def test_operands_are_rounded_and_sums_are_not():
    a, b = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((6, 300), (300, 4)))
    rounded = (np.float64(jnp.asarray(x, jnp.bfloat16)) for x in (a, b))
    found = bfloat16.dot_general(a, b, MATRICES)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.matmul(*rounded), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dimensions", [MATRICES, DIMENSIONS])
def test_all_derivatives_are_those_of_the_exact_product(dimensions):
    shapes = SHAPES if dimensions is DIMENSIONS else ((6, 5), (5, 4))
    a, b = (integers(shape, seed) for seed, shape in enumerate(shapes))
    da, db = (integers(shape, seed) for seed, shape in enumerate(shapes, 2))

    def found(product):
        def of(a, b):
            return product(a, b, dimensions)

        def loss(a, b):  # whose second derivatives mix both operands
            return jnp.sum(of(a, b) ** 2)

        gradient = jax.grad(loss, (0, 1))
        value, pull = jax.vjp(of, a, b)
        return (
            jax.jvp(of, (a, b), (da, db)),
            pull(value),
            jax.jvp(gradient, (a, b), (da, db)),
            jax.grad(lambda a, b: jnp.vdot(gradient(a, b)[0], da), (0, 1))(a, b),
            jax.linear_transpose(lambda a: of(a, b), a)(value),
        )

    exact = found(lax.dot_general)
    # Third factors are larger than bfloat16 holds: there 8 bits are compared.
    for one, other in zip(
        jax.tree.leaves(found(bfloat16.dot_general)), jax.tree.leaves(exact), strict=True
    ):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, atol=2**-7 * scale)
    first, exactly = (
        jax.jvp(lambda a, b, p=p: p(a, b, dimensions), (a, b), (da, db))
        for p in (bfloat16.dot_general, lax.dot_general)
    )
    np.testing.assert_array_equal(first, exactly)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_mapped_products_are_those_of_the_exact_one(data):
    axes = [data.draw(st.sampled_from([None, *range(5)])) for _ in range(2)]
    if axes == [None, None]:
        axes[0] = 0
    operands = [
        integers(shape if axis is None else (*shape[:axis], 3, *shape[axis:]), axis or 0)
        for shape, axis in zip(SHAPES, axes, strict=True)
    ]
    out = data.draw(st.integers(0, 3))

    def mapped(product):
        return jax.vmap(lambda a, b: product(a, b, DIMENSIONS), axes, out)(*operands)

    np.testing.assert_array_equal(mapped(bfloat16.dot_general), mapped(lax.dot_general))


def test_every_product_of_a_derivative_has_two_rounded_operands():
    def loss(weights, x):
        h = bfloat16.dot_general(x, weights, MATRICES)
        return jnp.sum(jnp.sin(bfloat16.dot_general(h, weights, MATRICES)))

    def twice(weights, x):
        return jnp.sum(jax.grad(loss, 1)(weights, x) ** 2)

    text = jax.jit(jax.grad(twice)).lower(integers((8, 8)), integers((4, 8))).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) > 6
    for line in products:
        operands = line.split(" : ")[-1].split("->")[0]
        assert operands.count("xbf16>") == 2, line


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.int32])
def test_other_types_are_refused(kind):
    with pytest.raises(TypeError, match="not float32"):
        bfloat16.dot_general(jnp.ones((2, 2), kind), jnp.ones((2, 2)), MATRICES)
