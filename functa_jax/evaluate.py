"""How good are latents? Reconstruction beside PCA, and a classifier beside PCA and pixels.

Every figure stands beside PCA with as many numbers per image: one gradient step from zero is a
linear encoder, and a latent that does not beat PCA has not earned its network.
"""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

STEPS_SHOWN = (0, 1, 2, 3, 10)
SELECTION_ROWS = 10_000  # training rows for choosing among classifiers


def mean_psnr(errors):
    """Mean over images of -10 log10(error), in dB; errors (n, ...) over signals in [0, 1]."""
    return -10 * np.log10(np.maximum(errors, 1e-12)).mean(axis=0)


def psnr_after_steps(functa, images, steps=STEPS_SHOWN):
    """{steps: mean of per-image PSNR in dB} over all images (n, h, w, C)."""
    _, errors = functa.course(images, max(steps))
    means = mean_psnr(errors)
    return {step: float(means[step]) for step in steps}


def pca(train_images, components):
    """PCA with `components` numbers an image, fitted on images (n, h, w, C) uint8.

    None if an image has no more than that many numbers, so that PCA would be a copy.
    """
    if components >= min(len(train_images), np.prod(train_images.shape[1:])):
        return None
    return PCA(components, random_state=0).fit(pixel_rows(train_images))


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
    """uint8 images (n, h, w, C) -> float32 (n, h*w*C) in [0, 1]."""
    return as_rows(images).astype(np.float32) / 255


def classify(train, val, test, rows, seed=0):
    """Accuracy of the best scikit-learn classifier on features, chosen on validation.

    train, val, test: (features (n, d), labels (n,)). At most `rows` training rows are used,
    and fewer for choosing. Returns {"classifier", "rows", "val", "test"}, accuracies in [0, 1].
    """
    x, y = subset(*train, min(rows, SELECTION_ROWS), seed)
    scores = {name: fitted(name, x, y).score(*val) for name in CLASSIFIERS}
    best = max(scores, key=scores.get)
    x, y = subset(*train, rows, seed)
    model = fitted(best, x, y)
    accuracies = {"val": float(model.score(*val)), "test": float(model.score(*test))}
    return {"classifier": best, "rows": len(x), **accuracies}


def _svm(c):
    return lambda: SVC(C=c, cache_size=1000)


CLASSIFIERS = {
    "logistic regression": lambda: make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=300)
    ),
    "SVM, C=1": _svm(1.0),
    "SVM, C=10": _svm(10.0),
    "SVM, C=100": _svm(100.0),
    "SVM, C=10, standardised": lambda: make_pipeline(
        StandardScaler(), SVC(C=10.0, cache_size=1000)
    ),
}


def fitted(name, x, y):
    """The classifier of CLASSIFIERS, fitted to rows x (n, d) and labels y (n,)."""
    with warnings.catch_warnings():  # logistic regression stops early on purpose
        warnings.simplefilter("ignore", ConvergenceWarning)
        return CLASSIFIERS[name]().fit(x, y)


def subset(x, y, rows, seed):
    """At most `rows` of the examples, each class in its proportion."""
    if rows >= len(x):
        return x, y
    counts = np.unique(y, return_counts=True)[1]
    possible = counts.min() > 1 and min(rows, len(x) - rows) >= len(counts)
    stratify = y if possible else None
    x, _, y, _ = train_test_split(x, y, train_size=rows, stratify=stratify, random_state=seed)
    return x, y
