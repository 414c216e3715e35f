"""A functa as a transformer of scikit-learn: images in, latents out, and back.

    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC
    pipeline = make_pipeline(functa_jax.FunctaTransformer("runs/meta_train-digits"), SVC())
    pipeline.fit(images, labels).score(other_images, other_labels)

The network is trained already (functa_jax.meta_train): `fit` learns nothing from X, it reads the
network. The latent of an image depends on that image alone, so cross-validation of what follows in
a pipeline is honest where the images are not among those that the network was trained on.
"""

from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from functa_jax.functa import Functa, load
from groundfloor.errors import UserError


class FunctaTransformer(TransformerMixin, BaseEstimator):
    """Images -> latents, by the inner loop of a trained functa.

    run: run folder or functa.npz (str or Path), or a Functa (dataclasses.replace(functa,
    lbfgs_steps=10) fits closer). steps: inner steps; none: those that the network was trained for.
    batch_size: images fitted at once.

    Attribute after `fit`: functa_, the network, which is pickled with the transformer.
    """

    def __init__(self, run, steps=None, batch_size=256):
        self.run = run
        self.steps = steps
        self.batch_size = batch_size

    def fit(self, X, y=None):
        """Read the network; X: images as for `transform`, whose shape is checked."""
        if not isinstance(self.run, str | Path | Functa):
            raise UserError(f"run {self.run!r}: give a run folder, a functa.npz or a Functa")
        self.functa_ = self.run if isinstance(self.run, Functa) else load(self.run)
        self.n_features_in_ = int(np.prod(self._images(X).shape[1:]))
        return self

    def transform(self, X):
        """Images (n, h, w, C), (n, h, w) or rows (n, h*w*C), uint8 or floats in [0, 1] -> latents.

        Returns float32 (n, numbers); a grid of cells is flattened. UserError for other shapes.
        """
        check_is_fitted(self)
        latents, _ = self.functa_.encode(self._images(X), self.steps, self.batch_size)
        return latents.reshape(len(latents), self.functa_.config.numbers)

    def inverse_transform(self, X):
        """Latents (n, numbers) -> images float32 (n, h, w, C), about [0, 1], not clipped."""
        check_is_fitted(self)
        latents = np.asarray(X, np.float32)
        config = self.functa_.config
        if latents.ndim != 2 or latents.shape[1] != config.numbers:
            raise UserError(f"latents have shape {latents.shape}, not (n, {config.numbers})")
        return self.functa_.decode(latents.reshape(-1, *config.latent_shape))

    def get_feature_names_out(self, input_features=None):
        """ "latent0", "latent1", ... for the columns of `transform`."""
        check_is_fitted(self)
        numbers = self.functa_.config.numbers
        return np.array([f"latent{number}" for number in range(numbers)], object)

    def _images(self, X):
        """Rows as images of the network's own shape; images as they are."""
        images, functa = np.asarray(X), self.functa_
        sides = functa.resolution or (() if functa.coords is None else functa.coords.shape[:1])
        if not sides:
            raise UserError(f"{functa!r} is of functions with points of their own: no rows of X")
        shape = (*sides, functa.config.channels)
        if images.ndim == 2 and images.shape[1] == np.prod(shape):
            return images.reshape(-1, *shape)
        if images.ndim == 2:
            raise UserError(f"rows of {images.shape[1]} numbers are no images of {shape}")
        return images
