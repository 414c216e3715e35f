"""A training of the smallest size, for tests of training."""

import jax
import numpy as np

from functa_jax.meta_train import Config
from functa_jax.model import siren
from functa_jax.training import loop, outer_loop
from groundfloor.data import datasets
from groundfloor.runs import Run

TINY = Config(
    images=32,
    width=8,
    depth=3,
    latent_dim=4,
    w0=20.0,
    batch_size=8,
    steps=12,
    warmup=2,
    noise=0.01,
    inner_points=40,
    eval_every=4,
    dispatch=3,
)
FLAGS = [
    *("digits", "--images", "32", "--width", "8", "--depth", "3", "--latent-dim", "4"),
    *("--batch-size", "8", "--steps", "12", "--warmup", "2", "--noise", "0.01"),
    *("--inner-points", "40", "--eval-every", "4", "--dispatch", "3"),
]
DATA = datasets.load("digits", images=32)
MODEL = loop.model_config(TINY, DATA.train.images)
START = jax.device_get(outer_loop.init_state(MODEL, TINY))
START |= {"seconds": np.zeros((), np.float32), "best": np.zeros((), np.float32)}


def trained(folder, config=TINY):
    return loop.train(config, DATA, Run(folder, {}, data_fingerprint=DATA.fingerprint))[0]


def assert_same(a, b, tolerance=0.0):
    a, b = siren.flatten(a.params), siren.flatten(b.params)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=tolerance, err_msg=name)


def checkpoints_of(folder):
    """Their folders in order of steps."""
    return sorted((folder / "checkpoints").glob("[0-9]*"))
