"""The fast sine and cosine: close to the true ones, and right to every order of derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.model.sine import PI_A, PI_B, polynomial_sincos, sincos, sine

# As users compile it; the tests ask for less, to save time.
OPTIMIZED = jax.jit(sincos, compiler_options={"xla_backend_optimization_level": 3})
# Not subnormal: XLA flushes them to zero.
REACH = st.floats(-200, 200, width=32, allow_subnormal=False)


@pytest.mark.parametrize("function", [sincos, OPTIMIZED, polynomial_sincos])
def test_error_below_one_millionth_on_a_dense_grid(function):
    x = np.linspace(-200, 200, 2_000_001, dtype=np.float32)
    fast_sine, fast_cosine = function(jnp.asarray(x))
    assert np.abs(fast_sine - np.sin(x.astype(np.float64))).max() <= 1e-6
    assert np.abs(fast_cosine - np.cos(x.astype(np.float64))).max() <= 1e-6


@given(REACH)
def test_pythagoras_and_parity(x):
    s, c = sincos(jnp.float32(x))
    assert abs(float(s) ** 2 + float(c) ** 2 - 1) < 1e-6
    minus_s, minus_c = sincos(jnp.float32(-x))
    assert float(minus_s) == -float(s)
    assert float(minus_c) == float(c)


@given(REACH, st.integers(0, 3))
def test_derivatives_up_to_third_order(x, order):
    function = sine
    for _ in range(order):
        function = jax.grad(function)
    expected = [np.sin, np.cos, lambda t: -np.sin(t), lambda t: -np.cos(t)][order](float(x))
    assert abs(float(function(jnp.float32(x))) - expected) <= 1e-6


@given(REACH, REACH)
def test_forward_over_reverse_is_the_hessian_vector_product(x, direction):
    def function(v):
        return jnp.sum(sine(v) * sine(2 * v))

    point = jnp.array([x / 2, 0.3], jnp.float32)
    tangent = jnp.array([direction / 200, -1.0], jnp.float32)
    _, got = jax.jvp(jax.grad(function), (point,), (tangent,))
    v = np.asarray(point, np.float64)
    # sin v sin 2v has the second derivative 4 cos v cos 2v - 5 sin v sin 2v
    second = 4 * np.cos(v) * np.cos(2 * v) - 5 * np.sin(v) * np.sin(2 * v)
    np.testing.assert_allclose(got, second * np.asarray(tangent), atol=3e-5)


def test_vmap_and_shapes():
    x = jnp.linspace(-3, 3, 24).reshape(2, 3, 4)
    np.testing.assert_allclose(jax.vmap(jax.vmap(sine))(x), sine(x), atol=1e-6)


def test_double_precision_uses_the_full_sine():
    with jax.enable_x64(True):
        x = jnp.linspace(-50.0, 50.0, 1001, dtype=jnp.float64)
        np.testing.assert_allclose(sine(x), np.sin(np.asarray(x)), atol=1e-14)


def test_nan_and_infinity_are_not_hidden():
    assert np.isnan(sine(jnp.float32(np.nan)))
    assert np.isnan(sine(jnp.float32(np.inf)))


def test_multiples_of_the_first_part_of_pi_are_exact_in_use():
    def exact(k):  # in float64 the product of two float32 has no rounding
        return np.float32(k) * np.float32(PI_A) == np.float64(k) * PI_A

    assert all(exact(k) for k in range(163))
    assert not exact(163)
    assert 162.5 * np.pi > 510  # round(x / pi) is 162 at most up to there
    assert abs(PI_A + PI_B - np.pi) < 1e-12
