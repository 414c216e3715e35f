"""A functa with random weights, for the tests of the viewer."""

import jax
import numpy as np

from functa_jax.functa import Functa
from functa_jax.model import siren

RANDOM = np.random.default_rng(0)


def functa_of(config, resolution=(6, 9)):
    """Random weights, large enough for biases and modulations to be seen in the picture."""
    shapes = siren.flatten(jax.eval_shape(lambda: siren.init(config, 0)))
    flat = {
        name: RANDOM.normal(0, 0.3 if name == "siren/layers/0/kernel" else 0.07, value.shape)
        for name, value in shapes.items()
    }
    params = {name: value.astype(np.float32) for name, value in flat.items()}
    return Functa(config, siren.unflatten(params), resolution)


def latents_of(config, n=2):
    return RANDOM.normal(0, 0.3, (n, *config.latent_shape)).astype(np.float32)
