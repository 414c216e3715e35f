"""The linear rival of a network: images are Gaussian, and what is seen of them is linear in them.

With images x ~ N(mean, S) and y = A x + e, where A leaves out hidden pixels and averages over
blocks and e ~ N(0, noise**2), the most probable image, and the mean of all possible ones, is

    mean + S A' (A S A' + noise**2)^-1 (y - A mean),

Wiener's filter. Its S is that of all pixels, shrunk by OAS (Chen et al. 2010, "Shrinkage algorithms
for MMSE covariance estimation"), whose shrinkage follows from theory, or that of the few directions
which a PCA keeps.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve
from sklearn.covariance import OAS

from functa_jax.evaluation import reconstruction
from functa_jax.tasks.restoration.fitting import PRIOR_LEVELS, block_means


class Normal(NamedTuple):
    """N(mean, covariance) of images as rows: mean (d,), or (n, d), one for each image; (d, d)."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of_images(cls, images):
        """All components of images (n, h, w, C), uint8; its values are in [0, 1]."""
        normal = OAS(store_precision=False).fit(reconstruction.pixel_rows(images))
        return cls(normal.location_.astype(np.float64), normal.covariance_.astype(np.float64))

    @classmethod
    def of_pca(cls, pca):
        """The components of a fitted sklearn PCA alone: all images lie in their plane."""
        axes = pca.components_.astype(np.float64)
        return cls(pca.mean_.astype(np.float64), axes.T * pca.explained_variance_ @ axes)


def most_probable(normal, seen, noise):
    """Images (n, H, W, C), float64, of a Normal, for what was Seen of them (fitting.py).

    noise: standard deviation, above 0, as of a signal in [0, 1]. Where a mask is not 0, a pixel is
    known.
    """
    n, height, width, channels = seen.pictures.shape
    fine = (height * seen.oversample, width * seen.oversample, channels)

    def average(rows):
        return reconstruction.as_rows(block_means(rows.reshape(-1, *fine), seen.oversample))

    across = average(normal.covariance)  # S A', of all pixels
    among = average(across.T) + noise**2 * np.eye(across.shape[1])
    images = np.array(np.broadcast_to(normal.mean, (n, len(across))), np.float64)
    errors = reconstruction.as_rows(seen.pictures) - average(images)
    known = np.repeat(reconstruction.as_rows(seen.weights) > 0, channels, axis=1)
    masks, which = np.unique(known, axis=0, return_inverse=True)
    for number, mask in enumerate(masks):
        if mask.any():
            rows = which.ravel() == number
            inside = among[np.ix_(mask, mask)]
            gain = solve(inside, errors[rows][:, mask].T, assume_a="pos")
            images[rows] += (across[:, mask] @ gain).T
    return images.reshape(n, *fine)


def by_prior(pca, seen, images, prior, noise):
    """Images (n, H, W, C) as fitting.refine_by_prior makes latents: PCA in the network's place.

    prior: a diffusion.Prior of the coefficients of a fitted sklearn PCA; images: where to begin.
    In turns the prior denoises coefficients, and the images around them are found in closed form.
    """
    around = pca.components_.T.astype(np.float64) @ pca.components_
    for level in PRIOR_LEVELS:
        clean = prior.denoise(pca.transform(reconstruction.as_rows(images)), level)
        spread = float(level * prior.scale)
        normal = Normal(pca.inverse_transform(clean), spread**2 * around)
        images = most_probable(normal, seen, noise)
    return images
