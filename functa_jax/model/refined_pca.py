"""A decoder for one vector that starts as PCA: PCA's picture of a latent, and what it lacks.

    picture(z) = mean + z B,        f(x; z) = (picture(z) + refine((C h w / L)^(1/2) z S^-1 B))(x)

B holds the first L principal components of the training images, S the standard deviations of the
images along them, so that refine sees a picture whose components are all of equal size and whose
pixels have variance 1. It is a SIREN of the pixels' neighbourhoods: `depth` convolutions of 3 x 3,
h <- sin(w0 (W * h + b)), the last one linear. That starts at zero, and latents start at
(image - mean) B', so that before training and without steps of the inner loop f is PCA. The
convolutions learn what usually goes with the components that are there: edges, above all. PCA
itself is not trained.
Between the centres of pixels colours are interpolated linearly.

Shapes: L latent size, h x w pixels of C colours, flat in B; N points.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from functa_jax.model.config import ModelConfig
from functa_jax.model.grid import hat_weights, neighbours
from functa_jax.model.latent_steps import LatentSteps
from functa_jax.model.linear import by_rows
from functa_jax.model.sine import sine


class RefinedPca(LatentSteps):
    """PCA's picture and the convolutions that refine it; PCA itself comes from `with_pca`."""

    def __init__(self, config: ModelConfig, *, rngs):
        self.config = config
        height, width = config.picture
        colours = height * width * config.channels
        self.mean = nnx.Param(jnp.zeros(colours))
        self.components = nnx.Param(jnp.zeros((config.latent_dim, colours)))
        self.deviations = nnx.Param(jnp.ones(config.latent_dim))
        sizes = [config.channels, *[config.width] * (config.depth - 1), config.channels]

        def uniform(key, shape, dtype=jnp.float32):
            bound = (6 / shape[0]) ** 0.5 / config.w0
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        starts = [uniform] * (config.depth - 1) + [nnx.initializers.zeros]
        self.layers = nnx.List(
            nnx.Linear(9 * fan_in, fan_out, kernel_init=start, rngs=rngs)
            for fan_in, fan_out, start in zip(sizes, sizes[1:], starts, strict=False)
        )
        self.learn_rates(rngs)

    def __call__(self, coords, latent):
        """Colours (h*w, C) of the image with this latent (L,) at its pixels.

        coords: of these pixels, for other decoders' sake.
        """
        return self.picture(latent).reshape(-1, self.config.channels)

    def at(self, coords, latent):
        """Colours (N, C) of the image with this latent at any points (N, 2) in [0, 1]^2."""
        sides = zip(coords.T, self.config.picture, strict=True)
        rows, columns = (hat_weights(x, side) for x, side in sides)
        return jnp.einsum("nr,nc,rcd->nd", rows, columns, self.picture(latent))

    def start(self, image):
        """The latent that PCA gives an image (h*w, C)."""
        mean, components, _ = self._pca()
        return components @ (image.ravel() - mean)

    def picture(self, latent):
        """The image (h, w, C) with this latent (L,)."""
        mean, components, deviations = self._pca()
        even = latent / deviations * (len(mean) / len(latent)) ** 0.5  # variance 1 in each pixel
        shape = (2, *self.config.picture, self.config.channels)
        linear, h = (jnp.stack([latent, even]) @ components).reshape(shape)
        *hidden, last = self.layers
        for layer in hidden:
            h = sine(self.config.w0 * by_rows(layer, neighbours(h, 3)))
        return linear + mean.reshape(linear.shape) + by_rows(last, neighbours(h, 3))

    def _pca(self):
        pca = (self.mean, self.components, self.deviations)
        return [lax.stop_gradient(jnp.asarray(part[...])) for part in pca]


def with_pca(params, pca):
    """Parameters of a RefinedPca with a fitted PCA in them.

    pca: as of scikit-learn, of images in [0, 1] as rows, with as many components as latents have.
    """
    deviations = pca.explained_variance_**0.5
    # Images may vary in fewer directions; where they do not, latents are 0.
    deviations = deviations.clip(1e-6 * deviations[0] + 1e-12)
    return params | {
        "mean": pca.mean_,
        "components": pca.components_,
        "deviations": deviations,
    }
