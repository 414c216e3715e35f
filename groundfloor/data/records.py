"""Images that stay in their array_record files until rows of them are taken."""

import os

import numpy as np

from groundfloor.data import pictures
from groundfloor.data.split import damaged
from groundfloor.errors import UserError, first_line

SHARE = 0.25  # of the memory, beyond which images stay in their files


class Records:
    """uint8 images (n, h, w, c) in the shards of a TFDS split, decoded where rows are taken.

    NumPy takes it for the array of all of them, and so reads them all. It can be pickled, so that
    worker processes decode.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, source, shape, rows, name, fingerprint):
        """source: rows of tf.train.Example as bytes (an ArrayRecordDataSource); shape: (h, w, c) of
        each image; rows: int64 (n,), the place of each image in the source; name: for errors;
        fingerprint: of the whole source."""
        self.source, self.rows, self.name, self.fingerprint = source, rows, name, fingerprint
        self.shape = (len(rows), *shape)
        self.nbytes = int(np.prod(self.shape))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        """One image (h, w, c), or those of a slice, a mask or numbers (m, h, w, c)."""
        places = self.rows[rows]
        numbers = np.atleast_1d(places).tolist()
        try:
            found = self.source.__getitems__(numbers) if numbers else []
        except Exception as error:  # what its C++ code makes of a damaged file
            damaged(self.name, f"its shards cannot be read any more ({first_line(error)})")
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for number, (place, record) in enumerate(zip(numbers, found, strict=True)):
            images[number] = self._decoded(place, record)
        return images[0] if np.ndim(places) == 0 else images

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, rows):
        """The Records of these rows; nothing is read."""
        return Records(self.source, self.shape[1:], self.rows[rows], self.name, self.fingerprint)

    def _decoded(self, place, record):
        try:
            image, *_ = parsed(record)
            image = pictures.decode(image, self.shape[3])
        except UserError as error:
            raise UserError(f"{self.name}: row {place} of the split {error}") from None
        except Exception as error:  # what a damaged picture raises is its decoder's choice
            damaged(self.name, f"row {place} of the split is unusable ({first_line(error)})")
        if image.shape != self.shape[1:]:
            found, needed = ("x".join(map(str, s)) for s in (image.shape, self.shape[1:]))
            raise UserError(
                f"{self.name}: row {place} of the split is {found} where {needed} is needed: all "
                "of one size"
            )
        return image


def parsed(record):
    """(image as it is stored, labels, ids) of a row of a TFDS set, a tf.train.Example in bytes."""
    from tensorflow_datasets.proto import tf_example_pb2

    feature = tf_example_pb2.Example.FromString(record).features.feature
    stored = feature["image"].bytes_list.value[0]
    return stored, feature["label"].int64_list.value, feature["id"].bytes_list.value


def too_many(count, shape):
    """Whether uint8 images take more than SHARE of this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return count * int(np.prod(shape)) > SHARE * memory
