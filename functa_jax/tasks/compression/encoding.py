"""Images to symbols and back: the codec of a functa's latents, and latents that suit its steps."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from functa_jax.functa import Functa
from functa_jax.functaset import Functaset
from functa_jax.tasks.compression import codec as codecs
from functa_jax.tasks.compression import context, curves, decoder, transform

NOISE_ROWS = 4096  # latents at which the decoder's Jacobian is looked at
TRAIN_ROWS = 20_000  # latents that transform and entropy model are fitted to
VAL_ROWS = 1000
ROUNDS = 2  # corrections of latents after rounding
LENGTH = 0.7  # of a correction; 1 is a Gauss-Newton step if J'J were its mean over images


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
    side: int | None = None  # cells per side of a block; none: 2 where these fit

    @cached_property
    def transform(self):
        """The Transform of latents as `as_grids` makes them."""
        train = self.functaset.train.latents
        grids = as_grids(self.functa, train[:TRAIN_ROWS])
        side = self.side or (2 if grids.shape[1] % 2 == 0 else 1)
        noise = decoder.pulled_noise(self.decoder, train[:NOISE_ROWS])
        return transform.fit(grids, side, as_grids(self.functa, noise))

    def codec(self, step):
        """The Codec at a step in grey levels, fitted to train; validation chooses its model."""
        train = as_grids(self.functa, self.functaset.train.latents[:TRAIN_ROWS])
        held = as_grids(self.functa, self.functaset.val.latents[:VAL_ROWS])
        if not len(held):
            held = train[-VAL_ROWS:]
        return codecs.fit(self.transform, train, held, step / 255, **self.settings)

    def point(self, images, shown, step):
        """The curves.Point of images uint8 (n, h, w, C) at a step in grey levels."""
        codec = self.codec(step)

        def encode_all(images):
            return encode(self.decoder, codec, images, self.functa.encode(images)[0])

        def decode(symbols, means):
            return rendered(self.decoder, codec.dequantise(symbols, means))

        return curves.coded("latents", codec, images, shown, step, encode_all, decode)


def encode(functa, codec, images, latents, rounds=ROUNDS):
    """The (symbols, means, scales) of images uint8 (n, h, w, C), as `Codec.choose` returns them.

    functa: that makes the pictures; latents: of the images, (n, ...). After rounding, the error of
    each picture is pulled back to its latent `rounds` times: what one number lost in rounding,
    others make good by being rounded anew. The one with the least error + rate_weight * bits stays.
    """
    found = codec.choose(codec.transform.apply(as_grids(functa, latents)))
    if not rounds:
        return found
    gradients, least = _slopes(functa, codec, images, found)
    candidate = found
    for _ in range(rounds):
        aimed = codec.coordinates(*candidate[:2]) - LENGTH * gradients
        candidate = codec.choose(aimed)
        gradients, costs = _slopes(functa, codec, images, candidate)
        better = costs < least
        least = np.minimum(costs, least)
        found = tuple(
            np.where(better[:, None, None, None], new, kept)
            for kept, new in zip(found, candidate, strict=True)
        )
    return found


def _slopes(functa, codec, images, found):
    """(gradients of half the squared error in coordinates, costs (n,)) of `encode`'s choice."""
    symbols, means, scales = found
    latents = codec.dequantise(symbols, means).reshape(len(images), *functa.config.latent_shape)
    gradients, errors = decoder.error_gradients(functa, latents, images)
    bits = context.laplace_bits(symbols, means, scales).sum(axis=(1, 2, 3))
    blocks = transform.to_blocks(as_grids(functa, gradients), codec.transform.side)
    return blocks @ codec.transform.inverse.T, errors + codec.rate_weight * codec.step**2 * bits


def rendered(functa, grids):
    """Latents as grids -> images uint8 (n, h, w, C)."""
    return curves.to_bytes(functa.decode(grids.reshape(-1, *functa.config.latent_shape)))
