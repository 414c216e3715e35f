"""Images that stay in their array_record files until rows of them are taken."""

import contextlib
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
        with damage(self.name, place):
            stored, *_ = parsed(record)
            image = pictures.decode(stored, self.shape[3])
            require_size(image, self.shape[1:])
        return image


@contextlib.contextmanager
def damage(path, number):
    """A context that makes a UserError, which names the row, of what goes wrong with it."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: row {number} of the split {error}") from None
    except MemoryError:
        raise
    except Exception as error:
        known = {
            IndexError: "lacks image or label",
            UnidentifiedImageError: f"no {', '.join(pictures.FORMATS)}",
        }
        why = known.get(type(error)) or first_line(error)
        damaged(path, f"row {number} of the split is unusable ({why})")


def require_size(image, shape):
    """UserError, the end of a sentence, where an image is not of the shape (h, w, c)."""
    if image.shape != shape:
        found, needed = ("x".join(map(str, s)) for s in (image.shape, shape))
        raise UserError(f"is {found} where {needed} is needed: all of one size")


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
