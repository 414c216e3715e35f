"""The codecs of a functa's latents, and what they make of its test images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from functa_jax.functa import Functa
from functa_jax.functaset import Functaset
from functa_jax.images import signals
from functa_jax.tasks.compression import codec as codecs
from functa_jax.tasks.compression import curves, decoder, transform

NOISE_ROWS = 4096  # latents at which the decoder's Jacobian is looked at
TRAIN_ROWS = 20_000  # latents that transform and entropy model are fitted to
VAL_ROWS = 500


def as_grids(functa, latents):
    """Latents (n, L) or (n, s, s, L) as float32 grids (n, s, s, L), s = 1 for vectors."""
    side = functa.config.grid or 1
    return np.asarray(latents, np.float32).reshape(-1, side, side, functa.config.latent_dim)


@dataclass(frozen=True, eq=False)
class Latents:
    """The codecs of a functa's latents, one for each step.

    functa: fits latents; decoder: Functa that makes pictures of them, functa itself or one of
    compression.adapt; functaset: of functa; settings: as codec.fit takes them.
    """

    functa: Functa
    decoder: Functa
    functaset: Functaset
    settings: dict

    @cached_property
    def noise(self):
        """J'v of train latents, as decoder.pulled_noise finds it."""
        return decoder.pulled_noise(self.decoder, self.functaset.train.latents[:NOISE_ROWS])

    @cached_property
    def transform(self):
        """The Transform of latents as `as_grids` makes them, in blocks of 2 x 2 cells where these
        fit."""
        grids = as_grids(self.functa, self.functaset.train.latents[:TRAIN_ROWS])
        side = 2 if grids.shape[1] % 2 == 0 else 1
        return transform.fit(grids, side, as_grids(self.functa, self.noise))

    def codec(self, step):
        """The Codec at a step in grey levels, fitted to train; validation chooses its model."""
        train = as_grids(self.functa, self.functaset.train.latents[:TRAIN_ROWS])
        held = as_grids(self.functa, self.functaset.val.latents[:VAL_ROWS])
        if not len(held):
            held = train[-VAL_ROWS:]
        return codecs.fit(self.transform, train, held, step / 255, **self.settings)

    def point(self, rows, images, shown, step):
        """The curves.Point of `images` uint8 (n, h, w, C), those in `rows` of the test split."""
        grids = as_grids(self.functa, self.functaset.test.latents[rows])

        def fit(images):
            return as_grids(self.functa, self.functa.encode(images)[0])

        def render(grids):
            return rendered(self.decoder, grids)

        return curves.coded("latents", self.codec(step), grids, images, shown, step, fit, render)


def rendered(functa, grids):
    """Latents as grids -> images uint8 (n, h, w, C)."""
    return signals.to_bytes(functa.decode(grids.reshape(-1, *functa.config.latent_shape)))
