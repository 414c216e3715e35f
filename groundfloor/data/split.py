"""One split of a data set, and how damage in one is reported."""

from dataclasses import dataclass

import numpy as np

from groundfloor.errors import UserError

SPLIT_SEED = 0  # fixed: every study of every package holds out the same validation images


@dataclass(frozen=True, eq=False)
class Split:
    """images uint8 (n, h, w, c); labels int64 (n,), -1 without labels; ids int64 (n,).

    An id is the row of the image in the published train (or test) file, whatever was held out.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self):
        return len(self.images)

    def take(self, indices):
        """The rows `indices` (integers, a slice or a mask) as a new Split."""
        return Split(self.images[indices], self.labels[indices], self.ids[indices])


def damaged(path, fault):
    """Raise the UserError for a file or folder of a data set that cannot be used."""
    raise UserError(
        f"{path}: {fault}; delete the set and get it again (copy it, or tfds build, or --download)"
    )
