"""A small functa with images and latents."""

import jax
import numpy as np
import pytest

from functa_jax.functa import Functa
from functa_jax.model import siren
from groundfloor.errors import UserError

CONFIG = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=5.0)
HEIGHT, WIDTH = 4, 6
RATES = np.array([0.1, 0.2, 0.4, 0.5], np.float32)  # latents far from zero, yet a stable course
PARAMS = {**jax.tree.map(np.asarray, siren.init(CONFIG, 0)), "inner_rate": RATES}
FUNCTA = Functa(CONFIG, PARAMS, (HEIGHT, WIDTH), metadata={"data": "noise", "steps": 7})
LATENTS = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


def fault(function, *args, **kwargs):
    """The message of the UserError, which must be one line."""
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message and "\n" not in message
    return message
