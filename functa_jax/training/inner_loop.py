"""The inner loop: K steps that turn one image, or another function, into its latent.

    z_0 = 0,   z_{k+1} = z_k - rate * grad_z loss(z_k),   k = 0 .. K-1

(or Gauss-Newton steps; or z_0 as the decoder says) with the loss of *that image* alone, so that
nothing depends on the batch; in a grid of cells the losses of the cells are summed, so that a
cell's gradient does not depend on how many there are.
Everything here is written for one image and mapped over images, by `jax.vmap` or one after the
other; coordinates and z_0 are not mapped, so XLA computes the first forward pass once for all that
are side by side. Coordinates and images come in the shapes of `siren.points` and `siren.arrange`,
in short (N, 2) and (N, C). Of other functions each may have its own coordinates, which are mapped
then, and weights of its points.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from functa_jax.model.siren import with_params
from functa_jax.training import losses


def image_loss(model, coords, latent, image, penalty=0.0, weights=None):
    """The loss of one image (N, C), mean over points (which weigh (N,)) and channels, and penalty.

    Returns it with penalty * mean(latent**2), which keeps latents small, and the mean squared
    error of the predictions.
    """
    of_latent, judge = losses.judgement(model.config, partial(model, coords), image, weights)
    loss, error = judge(of_latent(latent))
    return loss + penalty * jnp.mean(latent**2), error


def step(model, of_latent, latent, number, *, penalty=0.0, first_order=False, judge=losses.squared):
    """One step of the inner loop: the latent after it, and the mean squared error before it.

    of_latent: a function of a latent, rendered minus seen, or else what `judge` takes (see
    `losses.judgement`); number: of the step, 0 first. With first_order the step's direction counts
    as constant in gradients taken through it.
    """
    if model.config.update == "gauss_newton":
        direction, error = _gauss_newton(model, of_latent, latent, number, penalty)
        return latent - (lax.stop_gradient(direction) if first_order else direction), error

    def loss(latent):
        value, error = judge(of_latent(latent))
        return value + penalty * jnp.mean(latent**2), error

    gradient, error = jax.grad(loss, has_aux=True)(latent)
    if first_order:
        gradient = lax.stop_gradient(gradient)
    return latent - model.step(model.config.cells * gradient, number), error


def _gauss_newton(model, residuals, latent, number, penalty):
    """What to subtract from a latent: the minimiser of the squared error with its residuals
    linearised.

    By cg_iterations steps of conjugate gradients from zero (Nocedal & Wright 2006, algorithm
    5.3), preconditioned by the step's learned rates; one is a gradient step of the best length.
    A scan: JAX's own `cg` has the gradients of the exact solution, which few iterations are not.
    Cells that are independent of each other have each their own conjugate gradients.
    """
    axes = -1 if model.config.independent else tuple(range(latent.ndim))

    def dot(a, b):
        return jnp.sum(a * b, axes, keepdims=True)

    residual, push = jax.linearize(residuals, latent)
    pull = jax.linear_transpose(push, latent)

    def pulled(change, latent):
        return (pull(change)[0] / change.size + penalty * latent / latent.size) * 2

    tiny = jnp.finfo(latent.dtype).tiny ** 0.5  # of a denominator; it is 0 at a minimum
    left = pulled(residual, latent)  # of the equations: what the solution misses

    def iteration(carried, _):
        solution, left, direction, before = carried
        preconditioned = model.step(left, number)
        size = dot(left, preconditioned)
        direction = preconditioned + size / (before + tiny) * direction
        image = pulled(push(direction), direction)
        length = size / (dot(direction, image) + tiny)
        return (solution + length * direction, left - length * image, direction, size), None

    zero = jnp.zeros_like(latent)
    start = zero, left, zero, jnp.ones_like(dot(zero, zero))
    (solution, *_), _ = lax.scan(iteration, start, length=model.config.cg_iterations)
    return solution, jnp.mean(residual**2)


def fit(model, coords, image, steps, *, penalty=0.0, first_order=False, weights=None):
    """Fit one image (N, C): its latent after `steps` steps, and the errors before each.

    weights: of its points, (N,), or None. Returns (latent (L,) or (s, s, L), errors (steps,)).
    With first_order, gradients taken through the result ignore how the inner gradients depend on
    the parameters (Finn et al. 2017, 5.2).
    """
    of_latent, judge = losses.judgement(model.config, partial(model, coords), image, weights)
    latent, errors = model.start(image), []
    for number in range(steps):
        latent, error = step(
            model,
            of_latent,
            latent,
            number,
            penalty=penalty,
            first_order=first_order,
            judge=judge,
        )
        errors.append(error)
    return latent, jnp.stack(errors) if errors else jnp.zeros(0, image.dtype)


def encode(config, params, coords, images, steps, penalty=0.0, weights=None):
    """Fit images (B, N, C) and keep the whole course, for use without an outer gradient.

    coords (N, d), or (B, N, d) of each; weights of the points (N,), or (B, N), or None.
    Returns latents (B, steps + 1, *latent_shape) and mean squared errors (B, steps + 1): [:, k] are
    those after k steps of `fit`.
    """
    model = with_params(config, params)

    own, shared = apart(coords, images, weights)

    def fit_one(row):
        image, own = row
        at, weigh = joined(own, shared)
        of_latent, judge = losses.judgement(config, partial(model, at), image, weigh)

        def next_latent(latent, number):
            after, error = step(model, of_latent, latent, number, penalty=penalty, judge=judge)
            return after, (latent, error)

        last, (latents, errors) = lax.scan(next_latent, model.start(image), jnp.arange(steps))
        _, error = judge(of_latent(last))
        return jnp.concatenate([latents, last[None]]), jnp.append(errors, error)

    return over_images(fit_one, (images, own), images_at_once(*points_and_batch(images)))


def over_images(function, rows, at_once):
    """The function of each row of a tree of arrays (B, ...), `at_once` of them side by side."""
    return lax.map(function, rows, batch_size=at_once if at_once > 1 else None)


def side_by_side(function, rows):
    """`jax.vmap` of the function over rows of a tree of arrays (B, ...); one row goes as it is.

    A dimension of images, even of one, makes gradients of weights sums over several dimensions
    (see `model.linear`).
    """
    if len(jax.tree.leaves(rows)[0]) > 1:
        return jax.vmap(function)(rows)
    return jax.tree.map(lambda x: x[None], function(jax.tree.map(lambda x: x[0], rows)))


def apart(coords, images, weights):
    """What each of images (B, N, C) has for itself, and what all share: two pairs of coords and
    weights, None for what is not there."""
    own_coords = coords.ndim == images.ndim
    own_weights = weights is not None and weights.ndim == images.ndim - 1
    own = (coords if own_coords else None, weights if own_weights else None)
    return own, (None if own_coords else coords, None if own_weights else weights)


def joined(own, shared):
    """(coords, weights) of one image or of many, from what `apart` gave."""
    return tuple(
        one if one is not None else common for one, common in zip(own, shared, strict=True)
    )


def points_and_batch(images):
    """Points of an image and number of images (B, ..., C)."""
    return math.prod(images.shape[1:-1]), len(images)


def images_at_once(points, batch):
    """How many images to fit side by side: on a CPU as many as keep activations in cache, else as
    many as fill a GPU without exhausting its memory."""
    most = 2**9 if jax.default_backend() == "cpu" else 2**18
    return max(1, min(batch, most // points))
