"""Sine and cosine together, fast on CPUs.

XLA's own sine runs scalar on CPUs (3 to 8 ns an element); SIRENs spend more time in it
than in their matrix products. Here both come from one range reduction and two short
polynomials that XLA vectorises, and the derivative of each is the other, so that no
derivative of any order evaluates a sine again.
"""

import jax
import jax.numpy as jnp
from jax import lax

# pi in two parts: k * PI_A is exact in float32 up to k = 162, that is for |x| <= 510 (Cody & Waite
# 1980, "Software Manual for the Elementary Functions", chapter 8).
PI_A, PI_B = 3.141571044921875, 2.160866824851837e-05

# Weighted minimax polynomials in r**2 on [-pi/2, pi/2]: sin r = r + r**3 * SIN(r**2) and
# cos r = 1 + r**2 * COS(r**2), exact to 5e-9 and 6e-8 before rounding to float32.
SIN = (2.600054413e-06, -1.980661504e-04, 8.333017289e-03, -1.666665710e-01)
COS = (2.319438274e-05, -1.385592703e-03, 4.166398943e-02, -4.999993229e-01)


def polynomial_sincos(x):
    """(sin x, cos x) of a float32 array, absolute error below 1e-6 for |x| <= 200."""
    k = jnp.round(x * (1 / jnp.pi))
    r = (x - k * PI_A) - k * PI_B
    half = k * 0.5
    sign = jnp.where(jnp.round(half) == half, 1, -1).astype(x.dtype)  # (-1)**k
    square = r * r
    sine, cosine = jnp.full_like(r, SIN[0]), jnp.full_like(r, COS[0])
    for s, c in zip(SIN[1:], COS[1:], strict=True):
        sine, cosine = sine * square + s, cosine * square + c
    # Dividing by +-1 is exact, and XLA, which holds a division to be dear, then keeps the results
    # instead of computing the polynomials again in every fusion that reads them.
    return (r + r * square * sine) / sign, (1 + square * cosine) / sign


@jax.custom_jvp
def _cpu_sincos(x):
    # XLA would recompute the polynomials inside every fusion that reads them.
    return lax.optimization_barrier(polynomial_sincos(x))


@_cpu_sincos.defjvp
def _cpu_sincos_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    sine, cosine = _cpu_sincos(x)
    return (sine, cosine), (cosine * dx, -sine * dx)


def sincos(x):
    """(sin x, cos x) of an array: the fast pair where it wins (float32 on a CPU), else JAX's own.

    The fast pair has an absolute error below 1e-6 for |x| <= 200; a SIREN's arguments stay
    well inside.
    """
    if x.dtype == jnp.float32 and jax.default_backend() == "cpu":
        return _cpu_sincos(x)
    return jnp.sin(x), jnp.cos(x)


def sine(x):
    """sin x, to be differentiated cheaply any number of times (see `sincos`)."""
    return sincos(x)[0]
