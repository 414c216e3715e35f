"""Where a training starts: from another run's weights, or where it ended with fewer steps."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

import functa_jax
from functa_jax.meta_train import NOT_IDENTITY
from functa_jax.model import siren
from functa_jax.training import loop, outer_loop, starting
from groundfloor.errors import UserError
from tests.functa_jax.training import tiny
from tests.functa_jax.training.tiny import DATA

TINY = replace(tiny.TINY, steps=8, schedule="constant", dispatch=2)


def trained(config, weights=None):
    """A finished run in config.out: its Run and its Functa."""
    run = starting.open_run("digits", config, DATA, NOT_IDENTITY)
    functa, _ = loop.train(config, DATA, run, weights)
    run.write_summary(outer_steps=config.steps)
    return run, functa


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The folder of a run of 8 steps."""
    config = replace(TINY, out=tmp_path_factory.mktemp("short") / "run")
    trained(config)
    return config.out


@pytest.fixture
def copied(short, tmp_path):
    return shutil.copytree(short, tmp_path / "run")


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def test_more_steps_at_a_constant_rate_end_as_one_run_of_all(copied, tmp_path, capsys):
    _, whole = trained(replace(TINY, steps=12, out=tmp_path / "whole"))
    capsys.readouterr()
    run, raised = trained(replace(TINY, steps=12, out=copied))
    assert_same(raised, whole)
    assert "going on from step 8 to 12: the outer rate is constant" in capsys.readouterr().out
    assert json.loads((copied / "summary-8.json").read_text())["outer_steps"] == 8
    assert [row["step"] for row in run.rows() if row.get("event") == "raised"] == [8]
    # From now on it is a run of 12 steps: the same command finds it complete.
    assert starting.open_run("digits", replace(TINY, steps=12, out=copied), DATA, NOT_IDENTITY)
    with pytest.raises(UserError, match="steps 12 -> 8"):
        starting.open_run("digits", replace(TINY, out=copied), DATA, NOT_IDENTITY)


def test_a_raise_that_was_killed_half_way_goes_on(copied):
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**settings, "steps": 12}))
    run = starting.open_run("digits", replace(TINY, steps=12, out=copied), DATA, NOT_IDENTITY)
    assert run.summary() is None and (copied / "summary-8.json").exists()


def test_a_cosine_says_what_the_rate_does(copied, capsys):
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**settings, "schedule": "cosine"}))
    config = replace(TINY, schedule="cosine", steps=14, out=copied)
    starting.open_run("digits", config, DATA, NOT_IDENTITY)
    half = float(outer_loop.schedule(config)(8))  # after half of the decay
    np.testing.assert_allclose(half, config.outer_rate / 2, rtol=1e-5)
    assert f"was 0 at the end and is {half:.2g} from here on" in capsys.readouterr().out


def test_other_changes_and_lost_checkpoints_are_refused_and_change_nothing(copied):
    before = {path: path.read_bytes() for path in copied.glob("*.json*")}
    with pytest.raises(UserError, match="width 8 -> 9"):
        starting.open_run(
            "digits", replace(TINY, steps=12, width=9, out=copied), DATA, NOT_IDENTITY
        )
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(UserError, match="no checkpoints from which it could go on to 12"):
        starting.open_run("digits", replace(TINY, steps=12, out=copied), DATA, NOT_IDENTITY)
    assert {path: path.read_bytes() for path in copied.glob("*.json*")} == before


def test_a_run_starts_from_the_weights_of_another(short, tmp_path):
    source = functa_jax.load(short)
    config = replace(TINY, init=short, steps=1, ema=0.0, outer_rate=1e-30, out=tmp_path / "next")
    run, functa = trained(
        config, starting.weights_of(short, loop.model_config(config, DATA.train.images))
    )
    assert_same(functa, source)  # but for steps of no size
    # The weights are part of what the run is, wherever they lie and however they are named.
    assert run.config["init"]
    moved = shutil.copy(short / "functa.npz", tmp_path / "elsewhere.npz")
    starting.open_run("digits", replace(config, init=moved), DATA, NOT_IDENTITY)
    replace(source, params=siren.init(source.config, 1)).save(moved)
    with pytest.raises(UserError, match="init"):
        starting.open_run("digits", replace(config, init=moved), DATA, NOT_IDENTITY)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"width": 9}, "it has width 8, this run 9"),
        ({"w0": 10.0}, "it has w0 20.0, this run 10.0"),
        ({"grid": 2}, "it has grid None, this run 2"),
        ({"rates_of_steps": True}, "it learned other rates"),
    ],
)
def test_weights_of_another_network_are_refused(change, said, short):
    model = loop.model_config(replace(TINY, **change), DATA.train.images)
    with pytest.raises(UserError, match=said):
        starting.weights_of(short, model)
