"""One split of a data set, and how damage in one is reported."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from groundfloor.errors import UserError
from groundfloor.runs import counted

PARTS = ("train", "val", "test")
SPLIT_SEED = 0  # fixed: every study of every package holds out the same validation images


@dataclass(frozen=True, eq=False)
class Split:
    """images uint8 (n, h, w, c); labels int64 (n,), -1 without labels; ids int64 (n,).

    An id is the row of the image in the published train (or test) file, whatever was held out.
    """

    images: np.ndarray  # or records.Records, which is like one
    labels: np.ndarray
    ids: np.ndarray
    aligned: ClassVar[bool] = True  # as of `Functions`: all images have the same pixels

    def __len__(self):
        return len(self.images)

    @property
    def values(self):
        """The images, by the name that values of other functions have."""
        return self.images

    def take(self, indices):
        """The rows `indices` (integers, a slice or a mask) as a new Split.

        Images that are in files (`records.Records`) stay there.
        """
        images = self.images
        images = images[indices] if isinstance(images, np.ndarray) else images.take(indices)
        return Split(images, self.labels[indices], self.ids[indices])


def require_enough(data, found, classes, val, test):
    """UserError where a data set has not so many classes in train, of which `found` are there, or
    not so many of its things in val and test."""
    if found < classes:
        raise UserError(
            f"{data.name} has {counted(found, 'class', 'classes')} in train, "
            f"at least {classes} are needed"
        )
    for part, split, least in (("val", data.val, val), ("test", data.test, test)):
        if len(split) < least:
            raise UserError(
                f"{data.name} has {counted(len(split), data.noun)} in {part}, at least {least} "
                "needed"
            )


def drawn(keys, share, use):
    """Which of one's own images are held out for a `use`, such as "test": bool (n,).

    keys: bytes, the digest of the content of each. A hash of it is the number in [0, 1) by which an
    image is drawn, so that images which are added, taken away or renamed move no other, and equal
    ones stay together; the price is that classes have equal shares but for chance. Where none or
    all would be held out, the image that comes nearest is, or is not; none is where all are equal.
    """
    digests = [hashlib.sha256(use.encode() + key).digest() for key in keys]
    numbers = np.array([int.from_bytes(digest[:8]) / 2**64 for digest in digests])
    held = numbers < max(share, np.nextafter(numbers.min(), 1))
    return numbers < numbers.max() if held.all() else held


def damaged(path, fault):
    """Raise the UserError for a file or folder of a data set that cannot be used."""
    raise UserError(
        f"{path}: {fault}; delete the set and get it again (copy it, or tfds build, or --download)"
    )
