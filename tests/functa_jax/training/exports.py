"""Functas and data for tests of exports."""

from dataclasses import replace

from functa_jax import functa
from functa_jax.model import siren

CONFIG = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=5.0)
SHAPE = (4, 6, 1)
BATCH = 8  # of which the train images below need three, a part of one included
FUNCTA, OTHER = (functa.Functa(CONFIG, siren.init(CONFIG, s), SHAPE[:2]) for s in (0, 1))
DIGITS = replace(FUNCTA, resolution=(8, 8), metadata={"data": "digits"})
