"""What each part of the latents' codec buys, on validation latents; see compression.py."""

import numpy as np

from functa_jax.tasks.compression import codec as codecs
from functa_jax.tasks.compression import curves, encoding
from functa_jax.tasks.compression.transform import Transform

METHOD = "parts"
STEPS = (72.0, 50.0)  # of the quantiser, in grey levels: rates on both sides of RATE
RATE = 1.0  # bits per pixel at which parts are compared
ROWS = 1000  # validation images that are measured; as many others choose the entropy models
PLAIN = {"rate_weight": 0.0, "steps": 0}


def work(material, decoder, settings):
    """{setting: function that measures a part}, each with all parts before it."""
    first = encoding.Latents(material.functa, material.functa, material.functaset, settings)
    weighed = settings | {"steps": 0}
    return {
        "a step for each number": lambda: part(
            material, first, settings | PLAIN, plain=alone(first)
        ),
        "decorrelated in blocks": lambda: part(material, first, settings | PLAIN),
        "bits weigh, conditional means": lambda: part(material, first, weighed),
        "context": lambda: part(material, first, settings),
        "adapted decoder": lambda: part(material, first, settings, decoder=decoder),
    }


def alone(coder):
    """The Transform without decorrelation: each number's step is what its own effect asks for."""
    noise = encoding.as_grids(coder.functa, coder.noise)
    effects = np.sqrt(np.mean(np.square(noise, dtype=np.float64), axis=(0, 1, 2)))
    forward, inverse = (np.diag(np.float32(x)) for x in (effects, 1 / effects))
    return Transform(coder.transform.mean, forward, inverse, 1)


def part(material, coder, settings, *, plain=None, decoder=None):
    """A row: rates and PSNR at STEPS, and the PSNR at RATE between them."""
    functa, images = coder.functa, material.data.val.images[-ROWS:]
    train, held = (
        encoding.as_grids(functa, split.latents[:count])
        for split, count in (
            (material.functaset.train, encoding.TRAIN_ROWS),
            (material.functaset.val, encoding.VAL_ROWS),
        )
    )
    latents = encoding.as_grids(functa, material.functaset.val.latents[-ROWS:])
    found = []
    for step in STEPS:
        codec = codecs.fit(plain or coder.transform, train, held, step / 255, **settings)
        symbols, means, scales = codec.choose(codec.transform.apply(latents))
        rate = 8 * len(codec.encode(symbols, means, scales)) / images[..., 0].size
        pictures = encoding.rendered(decoder or functa, codec.dequantise(symbols, means))
        found.append((rate, curves.mean_psnr(pictures, images)))
    (coarse, low), (fine, high) = found
    slope = (high - low) / np.log(fine / coarse)
    return {
        "bits/pixel": [coarse, fine],
        "PSNR (dB)": [low, high],
        f"PSNR at {RATE:g} bits/pixel (dB)": float(low + slope * np.log(RATE / coarse)),
    }
