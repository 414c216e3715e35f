"""PCA through the codec of the latents: pixels are its numbers, their basis its transform.

Of whole images, whose basis is the best of any linear code, and of blocks of 8 x 8 pixels, which
lose some of that but tell the entropy model where an image is busy.
"""

from dataclasses import dataclass, field
from functools import cached_property

from functa_jax.evaluation import reconstruction
from functa_jax.images import signals
from functa_jax.tasks.compression import codec as codecs
from functa_jax.tasks.compression import curves, encoding, transform

BLOCK = 8  # pixels per side


def rivals(data, folder, settings):
    """{method: Pixels} for images of a Dataset; folder: of the run, which keeps the PCA.

    settings: as codec.fit takes them.
    """
    height, width, _ = data.train.images.shape[1:]
    found = {"PCA": Pixels("PCA", data, folder, settings, None)}
    if height == width and height % BLOCK == 0 and height > BLOCK:
        method = f"PCA of {BLOCK}x{BLOCK} blocks"
        found[method] = Pixels(method, data, folder, settings, BLOCK)
    return found


@dataclass(frozen=True)
class Pixels:
    """PCA of images or, with a `side`, of their blocks of side x side pixels."""

    method: str
    data: object
    folder: object
    settings: dict = field(hash=False)
    side: int | None

    @cached_property
    def transform(self):
        """The Transform of grids as `grids` makes them."""
        images = self.data.train.images
        if self.side:
            return transform.fit(self.grids(images[: encoding.TRAIN_ROWS]), self.side)
        pca = reconstruction.whole_pca(images, self.folder)
        basis = pca.components_
        return transform.Transform(pca.mean_.reshape(1, 1, -1), basis.T, basis, 1)

    def grids(self, images):
        """Images uint8 (n, h, w, C) as float32 grids in [0, 1] whose cells are pixels, or of one
        cell that holds the whole image."""
        rows = reconstruction.pixel_rows(images)
        return (
            rows.reshape(len(images), 1, 1, -1) if self.side is None else rows.reshape(images.shape)
        )

    def codec(self, step):
        """The Codec at a step in grey levels, fitted to train; validation chooses its model."""
        train = self.grids(self.data.train.images[: encoding.TRAIN_ROWS])
        held = self.grids(self.data.val.images[: encoding.VAL_ROWS])
        if not len(held):
            held = train[-encoding.VAL_ROWS :]
        return codecs.fit(self.transform, train, held, step / 255, **self.settings)

    def point(self, images, shown, step):
        """The curves.Point of images uint8 (n, h, w, C) at a step in grey levels."""

        def render(grids):
            return signals.to_bytes(grids).reshape(len(grids), *images.shape[1:])

        grids, codec = self.grids(images), self.codec(step)
        parts = grids, images, shown, step, self.grids, render
        return curves.coded(self.method, codec, *parts, basis=False)
