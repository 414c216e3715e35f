"""The inner loop: K gradient steps that turn one image into its latent.

    z_0 = 0,   z_{k+1} = z_k - rate * grad_z loss(z_k),   k = 0 .. K-1

with the loss of *that image* alone, so that nothing depends on the batch; in a grid of cells the
losses of the cells are summed, so that a cell's gradient does not depend on how many there are.
Everything here is written for one image and mapped over images by `jax.vmap`; coordinates and z_0
are not mapped, so XLA computes the first forward pass once for all images. Coordinates and images
come in the shapes of `siren.points` and `siren.arrange`, in short (N, 2) and (N, C).
"""

import math

import jax
import jax.numpy as jnp

from functa_jax.siren import with_params


def image_loss(model, coords, latent, image, penalty=0.0):
    """The loss of one image (N, C): squared error, mean over points and channels, and penalty.

    Returns it with penalty * mean(latent**2), which keeps latents small, and without.
    """
    error = jnp.mean((model(coords, latent) - image) ** 2)
    return error + penalty * jnp.mean(latent**2), error


def fit(model, coords, image, steps, *, penalty=0.0, first_order=False):
    """Fit one image (N, C): its latent after `steps` steps, and the errors before each.

    Returns (latent (L,) or (s, s, L), errors (steps,)). With first_order, gradients taken through
    the result ignore how the inner gradients depend on the parameters (Finn et al. 2017, 5.2).
    """
    latent, errors = jnp.zeros(model.config.latent_shape, image.dtype), []
    for number in range(steps):
        gradient, error = jax.grad(image_loss, argnums=2, has_aux=True)(
            model, coords, latent, image, penalty
        )
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        latent = latent - model.step(model.config.cells * gradient, number)
        errors.append(error)
    return latent, jnp.stack(errors) if errors else jnp.zeros(0, image.dtype)


def encode(config, params, coords, images, steps, penalty=0.0):
    """Fit images (B, N, C) and keep the whole course, for use without an outer gradient.

    Returns latents (B, steps + 1, *latent_shape) and mean squared errors (B, steps + 1): [:, k] are
    those after k steps of `fit`.
    """
    model = with_params(config, params)
    gradient_of = jax.value_and_grad(image_loss, argnums=2, has_aux=True)

    def step(latent, number, image):
        (_, error), gradient = gradient_of(model, coords, latent, image, penalty)
        return latent - model.step(config.cells * gradient, number), (latent, error)

    def fit_one(image):
        start = jnp.zeros(config.latent_shape, image.dtype)
        last, (latents, errors) = jax.lax.scan(
            lambda z, k: step(z, k, image), start, jnp.arange(steps)
        )
        error = image_loss(model, coords, last, image)[1]
        return jnp.concatenate([latents, last[None]]), jnp.append(errors, error)

    return jax.lax.map(fit_one, images, batch_size=images_at_once(*points_and_batch(images)))


def points_and_batch(images):
    """Points of an image and number of images (B, ..., C)."""
    return math.prod(images.shape[1:-1]), len(images)


def images_at_once(points, batch):
    """How many images to work on side by side: on a CPU as many as keep activations in cache,
    else as many as fill a GPU without exhausting its memory."""
    most = 2**9 if jax.default_backend() == "cpu" else 2**18
    return max(1, min(batch, most // points))


def psnr(error):
    """Peak signal-to-noise ratio in dB, for signals in [0, 1]: -10 log10(mean squared error)."""
    return -10 * jnp.log10(error)
