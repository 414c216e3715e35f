"""How good are latents? Their PSNR, and PCA beside it.

Every figure stands beside PCA with as many numbers per image: one gradient step from zero is a
linear encoder, and a latent that does not beat PCA has not earned its network.
"""

import contextlib
import hashlib
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from functa_jax.images import signals
from groundfloor import npz
from groundfloor.errors import UserError

STEPS_SHOWN = (0, 1, 2, 3, 10)
PIECE = 4096  # rows in memory at a time, in float64
MOST_FOR_PCA, MOST_NUMBERS = 50_000, 12_288  # images, and numbers of each, of a streamed set


def mean_psnr(errors):
    """Mean over images of -10 log10(error), in dB; errors (n, ...) over signals in [0, 1]."""
    return signals.psnr(np.asarray(errors)).mean(axis=0)


def psnr_after_steps(functa, images, steps=STEPS_SHOWN):
    """{steps: mean of per-image PSNR in dB} over all pixels of all images (n, h, w, C)."""
    piece = max(1, PIECE * 1024 // max(1024, functa.config.numbers))  # with latents of all steps
    pieces = [images[start : start + piece] for start in range(0, max(len(images), 1), piece)]
    errors = [functa.course(piece, max(steps))[1][:, list(steps)] for piece in pieces]
    means = mean_psnr(np.concatenate(errors))
    return dict(zip(steps, map(float, means), strict=True))


# ---- PCA ----


def pca(train_images, components, folder=None):
    """PCA with `components` numbers an image, fitted on images (n, h, w, C) uint8, or on values
    (n, ...) of other functions, uint8 or floats; n images give n - 1 at most.

    None if an image has no more than that many numbers, so that PCA would be a copy, and where
    both images and their numbers are more than MOST_NUMBERS, which would take hours. folder: of the
    run, as in `whole_pca`. Of images that are not in memory the first MOST_FOR_PCA are taken, and
    None where each has more than MOST_NUMBERS.
    """
    numbers = np.prod(train_images.shape[1:])
    if not isinstance(train_images, np.ndarray):  # Records: too many for the memory
        train_images = train_images[:MOST_FOR_PCA] if numbers <= MOST_NUMBERS else train_images[:0]
    least = min(len(train_images), numbers)
    if components >= numbers or not 2 <= least <= MOST_NUMBERS:
        return None
    components = min(components, len(train_images) - 1)
    return first_components(whole_pca(train_images, folder), components)


def whole_pca(train_images, folder=None):
    """The PCA of images (n, h, w, C), or values, as in `pca`, with all min(n, h*w*C) components.

    folder: of the run, where it is kept as pca.npz, and found again while the images are the same.
    """
    path = folder and Path(folder) / "pca.npz"
    digest = hashlib.sha256(repr(train_images.shape).encode())
    digest.update(np.ascontiguousarray(train_images))
    model = path and _kept(path, digest.hexdigest())
    if not model:
        model = exact_pca(as_rows(train_images), 1 / 255 if train_images.dtype == np.uint8 else 1)
        if path:
            # A copy, to spare time: where it cannot be written, nothing is lost.
            with contextlib.suppress(OSError, UserError):
                arrays = {name: getattr(model, name) for name in PARTS}
                npz.write(path, {"images": digest.hexdigest(), **arrays})
    return model


def exact_pca(rows, scale=1.0):
    """scikit-learn's PCA of `scale` times rows (n, d), with all min(n, d) components, float32.

    By the covariance's eigenvectors in float64, piece by piece, where rows are more than numbers
    (scikit-learn would take an approximate solver, or all rows as float64 at once).
    """
    n, numbers = rows.shape
    if n <= numbers:
        model = PCA(svd_solver="full").fit(np.float64(rows) * scale)
        return _as_pca(model.mean_, model.components_, model.explained_variance_)
    pieces = [rows[start : start + PIECE] for start in range(0, n, PIECE)]
    mean = sum(piece.sum(axis=0, dtype=np.float64) for piece in pieces) / n
    covariance = np.zeros((numbers, numbers))
    for piece in pieces:
        centred = piece - mean
        covariance += centred.T @ centred
    variances, vectors = np.linalg.eigh(covariance / (n - 1))
    variances = np.maximum(variances[::-1], 0) * scale**2
    return _as_pca(mean * scale, vectors.T[::-1], variances)


def first_components(model, count):
    """The PCA with the first `count` components of another."""
    mean, components, variances = (getattr(model, name) for name in PARTS)
    return _as_pca(mean, components[:count], variances[:count])


PARTS = ("mean_", "components_", "explained_variance_")


def _as_pca(mean, components, variances):
    model = PCA(len(components))
    model.n_components_ = len(components)
    model.n_features_in_ = len(mean)
    for name, value in zip(PARTS, (mean, components, variances), strict=True):
        setattr(model, name, np.ascontiguousarray(value, np.float32))
    return model


def _kept(path, images):
    """The PCA in a file if it is of these images; None otherwise, also of a damaged file."""
    with contextlib.suppress(UserError), npz.reading(path, "a PCA") as arrays:
        return _as_pca(*(arrays[name] for name in PARTS)) if arrays["images"] == images else None


def pca_psnr(model, images):
    """Mean of per-image PSNR in dB of images (n, h, w, C) rebuilt from a fitted PCA."""
    errors = []
    for start in range(0, len(images), 5000):
        rows = pixel_rows(images[start : start + 5000])
        rebuilt = model.inverse_transform(model.transform(rows))
        errors.append(((rebuilt - rows) ** 2).mean(axis=1))
    return float(mean_psnr(np.concatenate(errors)))


def as_rows(features):
    """Features (n, ...) as rows (n, d)."""
    return features.reshape(len(features), -1)


def pixel_rows(images):
    """Images or values (n, ...), uint8 or floats in [0, 1] -> float32 rows (n, d) in [0, 1]."""
    return as_rows(signals.to_float(images))
