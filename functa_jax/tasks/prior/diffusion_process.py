"""Gaussian diffusion as pure functions: mixing with noise, and walking down and up again.

Noise is mixed into a normalised latent x by an angle phi (Ho et al. 2020; Salimans & Ho 2022):

    z = cos(phi) x + sin(phi) e,   e ~ N(0, 1),       v = dz/dphi = cos(phi) e - sin(phi) x

A network learns E[v | z, phi, class], which gives the posterior means of latent and noise:
x = cos(phi) z - sin(phi) v, e = sin(phi) z + cos(phi) v. With phi = pi/2 * (t + s) / (1 + s), t
uniform in [0, 1], this is the cosine schedule of Nichol & Dhariwal (2021) with their s = 0.008.

Sampling walks from phi = pi/2, pure noise, down to the smallest angle. DDIM (Song et al. 2021) is
deterministic: it solves dz/dphi = v by steps that rotate in the plane of z and v, and can be walked
upwards. Ancestral sampling (DDPM) draws new noise at each step. Both are one formula with eta = 0
or 1. Guidance w exaggerates what the class changes (Ho & Salimans 2022).
"""

import jax
import jax.numpy as jnp
import numpy as np

HALF_TURN = np.pi / 2
SMALLEST = HALF_TURN * 0.008 / 1.008  # angle of the cosine schedule's start
INVERSION_ROUNDS = 8


def mix(x, noise, phi):
    """Noised latents z and their velocities v, at angles phi that broadcast with x."""
    sine, cosine = jnp.sin(phi), jnp.cos(phi)
    return cosine * x + sine * noise, cosine * noise - sine * x


def unmix(z, v, phi):
    """(x, noise) of z and v at angle phi: the inverse of `mix`."""
    sine, cosine = jnp.sin(phi), jnp.cos(phi)
    return cosine * z - sine * v, sine * z + cosine * v


def guided(with_class, without, guidance):
    """(1 + w) v(class) - w v(none): Ho & Salimans (2022), equation 6."""
    return with_class + guidance * (with_class - without)


def step_down(z, v, phi, lower, eta, fresh):
    """z at a lower angle. eta 0 is DDIM, a rotation; eta 1 is DDPM's ancestral step.

    fresh: new noise like z. The noise kept and the new noise have together the variance that
    belongs to the lower angle (Song et al. 2021, equations 12 and 16).
    """
    x, noise = unmix(z, v, phi)
    ratio = (jnp.cos(phi) / jnp.cos(lower)) ** 2
    new = eta**2 * (jnp.sin(lower) / jnp.sin(phi)) ** 2 * (1 - ratio)
    kept = jnp.sqrt(jnp.maximum(jnp.sin(lower) ** 2 - new, 0))
    return jnp.cos(lower) * x + kept * noise + jnp.sqrt(new) * fresh


def angles(steps):
    """The angles that `steps` steps visit, from pi/2 down: float32 (steps + 1,)."""
    return jnp.linspace(HALF_TURN, SMALLEST, steps + 1, dtype=jnp.float32)


def walk_down(velocity, z, steps, eta=0.0, key=None):
    """From noise (n, ...) to normalised latents (n, ...) in `steps` steps.

    velocity(z, phi): v at one angle for all rows; key: of JAX, needed for eta > 0.
    """
    key = jax.random.key(0) if key is None else key

    def step(z, visit):
        phi, lower, key = visit
        fresh = jax.random.normal(key, z.shape, z.dtype)
        return step_down(z, velocity(z, phi), phi, lower, eta, fresh), None

    phis = angles(steps)
    z, _ = jax.lax.scan(step, z, (phis[:-1], phis[1:], jax.random.split(key, steps)))
    return z / jnp.cos(SMALLEST)


def walk_up(velocity, x, steps):
    """The inverse of `walk_down` with eta 0: from normalised latents to their noise.

    Each step down is z' = cos(d) z - sin(d) v(z). Given z', a fixed-point iteration finds z, so
    that going up and down again returns to the start, which a step of Euler's upwards does not.
    """

    def step(z, visit):
        phi, lower = visit
        turn = phi - lower

        def better(guess, _):
            return (z + jnp.sin(turn) * velocity(guess, phi)) / jnp.cos(turn), None

        return jax.lax.scan(better, z, None, length=INVERSION_ROUNDS)[0], None

    phis = angles(steps)[::-1]
    return jax.lax.scan(step, x * jnp.cos(SMALLEST), (phis[1:], phis[:-1]))[0]
