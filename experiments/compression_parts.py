"""What each part of the latents' codec buys, on validation latents; see compression.py."""

from functools import cache

import numpy as np

from functa_jax.tasks.compression import codec as codecs
from functa_jax.tasks.compression import curves, encoding
from functa_jax.tasks.compression.transform import Transform

METHOD = "parts"
RATE = 1.0  # bits per pixel at which parts are compared
STEPS = {  # of the quantiser, in grey levels: rates about RATE
    "a step for each number": (216.0, 150.0),
    "decorrelated in blocks": (104.0, 72.0),
}
USUAL_STEPS = (72.0, 50.0)
ROWS = 1000  # validation images that are measured; others choose the entropy models
SETTINGS = {  # of codecs.fit; each has all that those before it have
    "a step for each number": {"rate_weight": 0.0, "steps": 0},
    "decorrelated in blocks": {"rate_weight": 0.0, "steps": 0},
    "bits weigh in rounding": {"steps": 0},
    "context": {},
}
ADAPTED = "adapted decoder"  # beside all these


def work(material, decoder, settings):
    """{setting: function that measures a row}, each with all parts before it."""
    functa = material.functa
    coder = encoding.Latents(functa, functa, material.functaset, settings)
    latents = encoding.as_grids(functa, material.functaset.val.latents[-ROWS:])
    images = material.data.val.images[-ROWS:]

    @cache
    def coded(part, step):
        """(bits per pixel, latents after decoding) with the codec of a part."""
        transform = alone(coder) if part == "a step for each number" else coder.transform
        train = encoding.as_grids(functa, coder.functaset.train.latents[: encoding.TRAIN_ROWS])
        held = encoding.as_grids(functa, coder.functaset.val.latents[: encoding.VAL_ROWS])
        codec = codecs.fit(transform, train, held, step / 255, **(settings | SETTINGS[part]))
        chosen = codec.choose(codec.transform.apply(latents))
        return 8 * len(codec.encode(*chosen)) / images[..., 0].size, codec.dequantise(*chosen[:2])

    def row(part, maker):
        found = [coded(part, step) for step in STEPS.get(part, USUAL_STEPS)]
        rates = [rate for rate, _ in found]
        psnr = [curves.mean_psnr(encoding.rendered(maker, grids), images) for _, grids in found]
        slope = (psnr[1] - psnr[0]) / np.log(rates[1] / rates[0])
        at_rate = float(psnr[0] + slope * np.log(RATE / rates[0]))
        return {
            "rates": rates,
            "psnr": psnr,
            f"PSNR at {RATE:g} bits/pixel (dB)": at_rate,
        }

    rows = {part: lambda part=part: row(part, functa) for part in SETTINGS}
    return {**rows, ADAPTED: lambda: row("context", decoder)}


def alone(coder):
    """The Transform without decorrelation: each number's step is what its own effect asks for."""
    noise = encoding.as_grids(coder.functa, coder.noise)
    effects = np.sqrt(np.mean(np.square(noise, dtype=np.float64), axis=(0, 1, 2)))
    forward, inverse = (np.diag(np.float32(x)) for x in (effects, 1 / effects))
    return Transform(coder.transform.mean, forward, inverse, 1)
