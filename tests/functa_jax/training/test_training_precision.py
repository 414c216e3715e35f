"""Training with matrix products of bfloat16 operands, asked for or chosen by measurement."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from functa_jax.model import bfloat16, siren
from functa_jax.training import devices, loop, outer_loop
from groundfloor.errors import UserError
from tests.functa_jax.training.tiny import DATA, MODEL, TINY, assert_same, trained

FASTER = {"float32": 1.0, "bfloat16": 0.5}


def outer_steps():
    return loop.OuterSteps(TINY, DATA, MODEL, devices.data_mesh(TINY.batch_size))


def test_auto_trains_as_the_precision_that_it_chose_also_when_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.OuterSteps, "seconds_by_precision", lambda *_: FASTER)
    chosen = trained(tmp_path / "auto", replace(TINY, precision="auto", steps=8))
    kept = json.loads((tmp_path / "auto" / "precision.json").read_text())
    assert kept == {"precision": "bfloat16", "seconds": FASTER}
    monkeypatch.setattr(loop.OuterSteps, "seconds_by_precision", pytest.fail)
    assert_same(chosen, trained(tmp_path / "named", replace(TINY, precision="bfloat16", steps=8)))
    trained(tmp_path / "auto", replace(TINY, precision="auto"))
    (tmp_path / "auto" / "precision.json").unlink()
    with pytest.raises(UserError, match=r"precision\.json is missing"):
        trained(tmp_path / "auto", replace(TINY, precision="auto"))


def test_rounded_products_train_nearly_as_exact_ones(whole, tmp_path):
    exact, rounded = whole[0].params, trained(tmp_path, replace(TINY, precision="bfloat16")).params
    moved = jax.tree.map(np.subtract, exact, siren.init(MODEL, TINY.seed))
    apart = jax.tree.map(np.subtract, exact, rounded)
    lengths = [
        np.linalg.norm(np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]))
        for tree in (apart, moved)
    ]
    assert 0 < lengths[0] < 0.2 * lengths[1]


def test_coordinates_and_latents_keep_their_digits():
    network = siren.with_params(MODEL, siren.init(MODEL, 0), "bfloat16")
    rounded = [layer.dot_general is bfloat16.dot_general for layer in network.layers]
    assert rounded == [False, True, True]
    assert network.latent_map.dot_general is not bfloat16.dot_general


def test_timed_steps_are_real_ones():
    state = jax.device_get(outer_loop.init_state(MODEL, TINY))
    seconds = outer_steps().seconds_by_precision(state)
    assert set(seconds) == set(FASTER) and min(seconds.values()) > 0
