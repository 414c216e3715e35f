"""Volume rendering: the colours of rays through a field of colour and density.

A ray of origin o and direction d sees

    C = sum_i w_i c_i + (1 - sum_i w_i) background,
    w_i = (1 - exp(-sigma_i l_i)) exp(-sum_{j<i} sigma_j l_j)

at the points o + t_i d (Mildenhall et al. 2020, "NeRF", equation 3). As in DeepMind's functa
(minimal_nerf.py): t_i equally spaced from near to far, both included; l_i = |d| (t_{i+1} - t_i),
the last one 0.001 |d|; sigma = min(elu(s, 0.1) + 0.1, 10); one set of points, no view direction.

A ray is six numbers, origin and direction, so that to the loops a scene is a function of rays.
Shapes: N rays, P points a ray. `config` is a ModelConfig.
"""

import jax
import jax.numpy as jnp

LAST_LENGTH = 1e-3  # of the interval behind the last point, in units of t
BACKGROUNDS = {"white": 1.0, "black": 0.0}


def render(config, field, rays, key=None):
    """Colours (N, 3) of rays (N, 6).

    field: a function of points (N, P, 3); its (N, P, 4) are colours and what `density` takes.
    key: as in `depths`.
    """
    origin, direction = jnp.split(rays[:, None], 2, axis=-1)  # (N, 1, 3)
    t = depths(config, key, len(rays))
    values = field(origin + t[..., None] * direction)
    lengths = jnp.diff(t, append=t[:, -1:] + LAST_LENGTH) * jnp.linalg.norm(direction, axis=-1)
    weights = ray_weights(density(values[..., 3], config.max_density) * lengths)
    empty = 1 - weights.sum(-1, keepdims=True)
    seen = (weights[..., None] * values[..., :3]).sum(-2)
    return seen + empty * BACKGROUNDS[config.background]


def depths(config, key=None, rays=1):
    """Places t of the points: (1, P), equally spaced; or with a random key (rays, P), each at
    random between the middles of its neighbours."""
    t = jnp.linspace(config.near, config.far, config.ray_points)[None]
    if key is None:
        return t
    middles = (t[:, 1:] + t[:, :-1]) / 2
    low = jnp.concatenate([t[:, :1], middles], -1)
    high = jnp.concatenate([middles, t[:, -1:]], -1)
    return low + (high - low) * jax.random.uniform(key, (rays, config.ray_points))


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
