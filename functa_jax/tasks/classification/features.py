"""What the classifiers see: latents, PCA and pixels of the same images, also of augmented ones.

Of other functions than images, the values stand where pixels do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.images.signals import to_float

MOST_VALUES = 8192  # of a function: beyond, whole PCA, which turns them, stands for them alone


@dataclass(frozen=True, eq=False)
class Features:
    """One kind of features of all images: latents, PCA or pixels.

    train, val, test: (n, d), or (n, h, w, c) for grids and images; train may go on with copies;
    of: uint8 images -> their features; stream: augmented images before every 50 steps, 0 for none.
    """

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    of: Callable
    stream: int

    @property
    def numbers(self):
        """Numbers per image."""
        return int(np.prod(self.test.shape[1:]))


def of_images(material, augment=0, whole=True):
    """Latents, PCA with as many numbers (if an image has more) and with all, and pixels (of other
    functions, values, up to MOST_VALUES of them): a list of Features.

    augment: augmented images to be fitted before every 50 steps. If the functaset has augmented
    copies, PCA and pixels see as large a share of augmented images, made as training goes: that
    costs nothing.
    whole: whether PCA with all numbers is among them. Functions that have points of their own have
    latents alone.
    """
    splits, functaset = ("train", "val", "test"), material.functaset
    latents = (np.asarray(getattr(functaset, name).latents, np.float32) for name in splits)
    kinds = [Features("latents", *latents, lambda x: material.functa.encode(x)[0], augment)]
    if not material.data.train.aligned:
        return kinds
    rows = augment or (2048 if material.copies else 0)
    images = [getattr(material.data, name).values for name in splits]
    models = {"PCA": reconstruction.pca(images[0], kinds[0].numbers, material.folder)}
    if whole:
        models["whole PCA"] = reconstruction.whole_pca(images[0], material.folder)
    for name, model in models.items():
        if model is not None:

            def reduced(x, model=model):
                return np.float32(model.transform(reconstruction.pixel_rows(x)))

            kinds.append(Features(name, *map(reduced, images), reduced, rows))

    if material.functa.of_images:
        return [*kinds, Features("pixels", *map(to_float, images), to_float, rows)]
    if images[0][0].size <= MOST_VALUES:
        rows_of = reconstruction.pixel_rows
        kinds.append(Features("values", *map(rows_of, images), rows_of, rows))
    return kinds


def scales(x, how):
    """Mean and standard deviation of features (n, ..., c): one number each, or (c,) by channel."""
    axes = None if how == "scalar" else tuple(range(x.ndim - 1))
    mean, std = (f(x, axis=axes, dtype=np.float64) for f in (np.mean, np.std))
    return np.float32(mean), np.float32(np.where(std > 0, std, 1))


class Stream:
    """Features of augmented training images, block after block and copy after copy.

    Calling it with a round's number gives (row, features): they take the place of examples from
    `row` on, behind the `first` rows that stay.
    """

    def __init__(self, images, of, augmentation, *, first, rows):
        self.images, self.of, self.augmentation = images, of, augmentation
        self.first, self.rows = first, rows

    @property
    def blocks(self):
        """In how many blocks it goes through all images once."""
        return -(-len(self.images) // self.rows)

    def __call__(self, number):
        copy, block = divmod(number, self.blocks)
        start = block * self.rows
        images = self.images[start : start + self.rows]
        return self.first + start, self.of(self.augmentation(images, copy + 1, start))
