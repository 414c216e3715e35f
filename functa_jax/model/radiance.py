"""Volume rendering: the colours of rays through a field of colour and density.

A ray of origin o and direction d sees

    C = sum_i w_i c_i + (1 - sum_i w_i) background,
    w_i = (1 - exp(-sigma_i l_i)) exp(-sum_{j<i} sigma_j l_j)

at the points o + t_i d (Mildenhall et al. 2020, "NeRF", equation 3). As in DeepMind's functa
(minimal_nerf.py): t_i equally spaced from near to far, both included; l_i = |d| (t_{i+1} - t_i),
the last one 0.001 |d|; sigma = min(elu(s, 0.1) + 0.1, 10); one set of points, no view direction.
Where a ball is known to hold the scene, near and far are where a ray enters and leaves it, so that
fewer points do. A density_gain g makes s the network's output as g (s - 0.5) + 0.5.

A ray is six numbers, origin and direction, so that to the loops a scene is a function of rays.
Shapes: N rays, P points a ray. `config` is a ModelConfig.
"""

import jax
import jax.numpy as jnp

LAST_LENGTH = 1e-3  # of the interval behind the last point, in units of t
OFFSET = 0.5  # that a SIREN adds to its outputs
BACKGROUNDS = {"white": 1.0, "black": 0.0}


def render(config, field, rays):
    """Colours (N, 3) of rays (N, 6).

    field: a function of points (N, P, 3); its (N, P, 4) are colours and what `density` takes.
    """
    origin, direction = jnp.split(rays[:, None], 2, axis=-1)  # (N, 1, 3)
    t = depths(config, origin, direction)
    values = field(origin + t[..., None] * direction)
    lengths = jnp.diff(t, append=t[:, -1:] + LAST_LENGTH) * jnp.linalg.norm(direction, axis=-1)
    if config.ball is not None:  # rays that miss it have no place in it
        lengths = lengths * meets_ball(rays, config.ball)[:, None]
    raw = (values[..., 3] - OFFSET) * config.density_gain + OFFSET
    weights = ray_weights(density(raw, config.max_density) * lengths)
    empty = 1 - weights.sum(-1, keepdims=True)
    seen = (weights[..., None] * values[..., :3]).sum(-2)
    return seen + empty * BACKGROUNDS[config.background]


def depths(config, origin, direction):
    """Places t (N, P), or (1, P) for all, of the points on rays (N, 1, 3): equally spaced."""
    near, far = jnp.full((1, 1), config.near), jnp.full((1, 1), config.far)
    if config.ball is not None:
        near, far = _chord(origin, direction, config.ball)
    share = jnp.linspace(0, 1, config.ray_points)
    return near + (far - near) * share


def meets_ball(rays, radius):
    """Whether rays (..., 6) meet the ball about the origin: bool (...)."""
    _, apart = _middle(rays[..., :3], rays[..., 3:])
    return apart < radius**2


def _chord(origin, direction, radius):
    """Where rays (N, 1, 3) enter and leave the ball about the origin: t (N, 1) each; where they
    miss it both are the place that is nearest to it."""
    middle, apart = _middle(origin, direction)
    half = jnp.sqrt(jnp.maximum(radius**2 - apart, 0) / (direction**2).sum(-1))
    return middle - half, middle + half


def _middle(origin, direction):
    """The place t (...) of rays (..., 3) that is nearest to the origin; its squared distance."""
    t = -(origin * direction).sum(-1) / (direction**2).sum(-1)
    return t, ((origin + t[..., None] * direction) ** 2).sum(-1)


def density(raw, most):
    """The density of a network's output: above zero and at most `most`.

    The bend at zero is soft, so that a point without matter still has a gradient.
    """
    return jnp.minimum(jax.nn.elu(raw, 0.1) + 0.1, most)


def ray_weights(thickness):
    """Weights (N, P) of points in their ray's colour, from the optical thickness (N, P) of the
    intervals behind them. They sum to 1 - exp(-sum of thickness)."""
    points = thickness.shape[-1]
    # The sums before each point are a matrix product: XLA's cumulative sum is slow on CPUs.
    before = jnp.triu(jnp.ones((points, points), thickness.dtype), 1)
    passed = jnp.matmul(thickness, before, precision="highest")
    return -jnp.expm1(-thickness) * jnp.exp(-passed)
