"""Images to symbols and back: the codec of a functa's latents, and latents that suit its steps."""

import numpy as np

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


def fit_transform(functa, train, side=None, seed=0):
    """The Transform of latents like `train` (n, ...), in blocks of 2 x 2 cells where these fit."""
    grids = as_grids(functa, train[:TRAIN_ROWS])
    side = side or (2 if grids.shape[1] % 2 == 0 else 1)
    noise = decoder.pulled_noise(functa, train[:NOISE_ROWS], seed)
    return transform.fit(grids, side, as_grids(functa, noise))


def fit(functa, latents_transform, train, held, step, **settings):
    """The Codec of a functa's latents: `train` (n, ...) fit it, `held` choose its entropy model.

    step: of the quantiser, in grey levels; settings: as codec.fit takes them.
    """
    train, held = as_grids(functa, train[:TRAIN_ROWS]), as_grids(functa, held[:VAL_ROWS])
    return codecs.fit(latents_transform, train, held, step / 255, **settings)


def encode(functa, codec, images, latents=None, rounds=ROUNDS):
    """The (symbols, means, scales) of images uint8 (n, h, w, C), as `Codec.choose` returns them.

    latents: of the images, fitted here if none are given. After rounding, the error of each picture
    is pulled back to its latent `rounds` times: what one number lost in rounding, others make good
    by being rounded anew, and the one with the least error + rate_weight * bits is kept.
    """
    if latents is None:
        latents, _ = functa.encode(images)
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
        for kept, new in zip(found, candidate, strict=True):
            kept[better] = new[better]
    return found


def _slopes(functa, codec, images, found):
    """(gradients of half the squared error in coordinates, costs (n,)) of `encode`'s choice."""
    symbols, means, scales = found
    latents = codec.dequantise(symbols, means).reshape(len(images), *functa.config.latent_shape)
    gradients, errors = decoder.error_gradients(functa, latents, images)
    bits = context.laplace_bits(symbols, means, scales).sum(axis=(1, 2, 3))
    blocks = transform.to_blocks(as_grids(functa, gradients), codec.transform.side)
    return blocks @ codec.transform.inverse.T, errors + codec.rate_weight * codec.step**2 * bits


def decode(functa, codec, symbols, means):
    """Symbols and their means -> images uint8 (n, h, w, C)."""
    return rendered(functa, codec.dequantise(symbols, means))


def rendered(functa, grids):
    """Latents as grids -> images uint8 (n, h, w, C)."""
    return curves.to_bytes(functa.decode(grids.reshape(-1, *functa.config.latent_shape)))
