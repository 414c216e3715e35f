"""Latents fitted on by L-BFGS from where the inner loop ends (Nocedal & Wright 2006, ch. 7.2).

The inner loop has a few steps, which meta-learning makes good. They are the cheapest way to a
latent, and not the best that the network has: more of the same steps may even lead away, as their
rates were learned for these few. L-BFGS needs no rates. It costs about four passes an iteration.
"""

import jax.numpy as jnp
import optax
from jax import lax

from functa_jax.training import inner_loop


def fit_on(model, coords, image, latent, iterations, *, penalty=0.0, weights=None):
    """The latent (L,) or (s, s, L) of one image (N, C) after so many iterations from `latent`.

    It minimises what the inner loop does; one that is not better than `latent` is left for it.
    weights: of the points, (N,), or None. Returns it and the mean squared error there.
    """

    def both(latent):
        return inner_loop.image_loss(model, coords, latent, image, penalty, weights)

    def loss(latent):
        return both(latent)[0]

    solver = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(loss)

    def iteration(carried, _):
        latent, state = carried
        value, gradient = value_and_gradient(latent, state=state)
        updates, state = solver.update(
            gradient, state, latent, value=value, grad=gradient, value_fn=loss
        )
        return (optax.apply_updates(latent, updates), state), None

    (found, _), _ = lax.scan(iteration, (latent, solver.init(latent)), length=iterations)
    (loss_before, error_before), (loss_found, error_found) = both(latent), both(found)
    better = loss_found < loss_before
    return jnp.where(better, found, latent), jnp.where(better, error_found, error_before)
