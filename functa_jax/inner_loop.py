"""The inner loop: K gradient steps that turn one image into its latent.

    z_0 = 0,   z_{k+1} = z_k - rate * grad_z loss(z_k),   k = 0 .. K-1

with the loss of *that image* alone, so that nothing depends on the batch. Everything here is
written for one image and mapped over images by `jax.vmap`; coordinates and z_0 are not mapped,
so XLA computes the first forward pass once for all images.
"""

import jax
import jax.numpy as jnp

from functa_jax.siren import with_params


def image_loss(model, coords, latent, image, penalty=0.0):
    """Squared error of one image (N, C), mean over points and channels, and the inner loss.

    The inner loss adds penalty * mean(latent**2), which keeps latents small.
    """
    error = jnp.mean((model(coords, latent) - image) ** 2)
    return error + penalty * jnp.mean(latent**2), error


def fit(model, coords, image, steps, *, penalty=0.0, first_order=False):
    """Fit one image (N, C): its latent (L,) after `steps` steps, and the errors before each.

    Returns (latent, errors (steps,)). With first_order, gradients taken through the result
    ignore how the inner gradients depend on the parameters (Finn et al. 2017, section 5.2).
    """
    rate = model.rate()
    latent, errors = jnp.zeros(model.config.latent_dim, image.dtype), []
    for _ in range(steps):
        gradient, error = jax.grad(image_loss, argnums=2, has_aux=True)(
            model, coords, latent, image, penalty
        )
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        latent = latent - rate * gradient
        errors.append(error)
    return latent, jnp.stack(errors) if errors else jnp.zeros(0, image.dtype)


def encode(config, params, coords, images, steps, penalty=0.0):
    """Fit images (B, N, C) and keep the whole course, for use without an outer gradient.

    Returns latents (B, steps + 1, L) and mean squared errors (B, steps + 1): [:, k] are those
    after k steps of `fit`.
    """
    model = with_params(config, params)
    rate = model.rate()
    gradient_of = jax.value_and_grad(image_loss, argnums=2, has_aux=True)

    def step(latent, _, image):
        (_, error), gradient = gradient_of(model, coords, latent, image, penalty)
        return latent - rate * gradient, (latent, error)

    def fit_one(image):
        start = jnp.zeros(config.latent_dim, image.dtype)
        last, (latents, errors) = jax.lax.scan(lambda z, k: step(z, k, image), start, length=steps)
        error = image_loss(model, coords, last, image)[1]
        return jnp.concatenate([latents, last[None]]), jnp.append(errors, error)

    return jax.lax.map(fit_one, images, batch_size=images_at_once(coords.shape[0], len(images)))


def images_at_once(points, batch):
    """How many images to work on side by side: on a CPU as many as keep activations in cache,
    else as many as fill a GPU without exhausting its memory."""
    most = 2**9 if jax.default_backend() == "cpu" else 2**18
    return max(1, min(batch, most // points))


def psnr(error):
    """Peak signal-to-noise ratio in dB, for signals in [0, 1]: -10 log10(mean squared error)."""
    return -10 * jnp.log10(error)
