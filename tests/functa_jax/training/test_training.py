"""Training: data order, divergence and roll-backs, the same however it is dispatched."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.model import siren
from functa_jax.training import feed, loop
from functa_jax.training.checkpoints import Checkpoints
from groundfloor.errors import UserError
from groundfloor.runs import read_rows
from tests.functa_jax.training.tiny import DATA, TINY, assert_same, trained


@given(st.integers(0, 5), st.integers(0, 3), st.integers(1, 9), st.integers(9, 40))
def test_every_epoch_sees_whole_batches_of_different_images(seed, epoch, batch, images):
    steps = images // batch
    rows = [feed.rows_of_step(seed, epoch * steps + i, images, batch) for i in range(steps)]
    seen = np.concatenate(rows)
    assert len(np.unique(seen)) == steps * batch
    assert set(seen) <= set(range(images))


def test_epochs_and_seeds_differ_in_order():
    orders = [feed.rows_of_step(seed, step, 100, 100) for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_non_finite_loss_stops_with_the_step_named(tmp_path):
    with pytest.raises(UserError, match=r"not finite at step \d+; lower --outer-rate"):
        trained(tmp_path / "run", replace(TINY, outer_rate=1e30, warmup=0))


@pytest.mark.slow
def test_roll_back_halves_the_rate_and_ends(tmp_path, capsys):
    config = replace(TINY, outer_rate=3.0, warmup=0, steps=24, eval_every=24, noise=0.0)
    config = replace(config, on_divergence="rollback", schedule="constant")
    result = trained(tmp_path / "run", config)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    events = [row for row in rows if row.get("event") == "rollback"]
    assert events
    assert [row["damping"] for row in events] == [0.5 ** (i + 1) for i in range(len(events))]
    assert rows[-1]["step"] == 24
    assert all(np.isfinite(value).all() for value in siren.flatten(result.params).values())
    assert "outer rate times 0.5" in capsys.readouterr().out


@pytest.mark.parametrize("guarded, back", [(4, 4), (3, 8)])
@pytest.mark.parametrize("on_disk", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_checkpoint_that_was_saved_while_falling_is_dropped(
    guarded, back, on_disk, tmp_path, monkeypatch
):
    """A fault among the first steps after the checkpoint of step 8, or among later ones."""
    steps, faults = [], ["training collapsed"]

    def fault(self, step, metrics, checkpoint):
        steps.append(step)
        return (12, faults.pop()) if step == 11 and faults else None

    monkeypatch.setattr(loop.Guard, "fault", fault)
    monkeypatch.setattr(loop, "GUARDED_STEPS", guarded)
    config = replace(TINY, on_divergence="rollback")
    if on_disk:
        trained(tmp_path / "run", config)
        rows = read_rows(tmp_path / "run" / "metrics.jsonl")
        assert [row["step"] for row in rows if row.get("event") == "rollback"] == [back]
        assert rows[-1]["step"] == 12
    else:
        loop.train(config, DATA, None)
    assert steps[: steps.index(11) + 2] == [0, 3, 4, 7, 8, 11, back]


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_fault_goes_back_further_also_after_a_kill(killed, tmp_path, monkeypatch):
    faults, kills = 2 * ["training collapsed"], ["a kill"] if killed else []

    def fault(self, step, metrics, checkpoint):
        if step == 8 and len(faults) == 1 and kills:
            raise KeyboardInterrupt(kills.pop())  # after the roll-back, before any checkpoint
        return (12, faults.pop()) if step == 11 and faults else None

    monkeypatch.setattr(loop.Guard, "fault", fault)
    monkeypatch.setattr(loop, "GUARDED_STEPS", 3)
    config = replace(TINY, on_divergence="rollback")
    if killed:
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run", config)
    trained(tmp_path / "run", config)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if row.get("event") == "rollback"] == [4]


@given(
    st.lists(st.floats(5, 15, width=32), min_size=1, max_size=200),
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(1, 120),
)
def test_the_guard_does_not_see_how_steps_are_dispatched(psnrs, dispatches, eval_every):
    """Only after which step a collapse is noticed may differ, never between two checkpoints."""

    def course(dispatches):
        """(first fault or None, best at each checkpoint) of a training with these PSNRs."""
        guard, step, numbers, bests = loop.Guard(-np.inf, 4.0), 0, iter(dispatches), []
        while step < len(psnrs):
            after = min(step + next(numbers), len(psnrs), (step // eval_every + 1) * eval_every)
            part = np.array(psnrs[step:after])
            metrics = {"psnr": part, "loss": 0 * part, "gradient_norm": 0 * part}
            due = after % eval_every == 0 or after == len(psnrs)
            fault = guard.fault(step, metrics, due)
            if fault:
                return fault, bests
            step = after
            if due:
                bests.append(guard.best)
        return None, bests

    assert course(itertools.cycle(dispatches)) == course(itertools.cycle([loop.GUARDED_STEPS]))


def test_a_collapse_is_told_from_one_bad_step():
    def course(psnr):
        guard = loop.Guard(20.0, 4.0)
        return guard.fault(100, {"psnr": psnr, "loss": psnr, "gradient_norm": psnr}, True)

    one, all_ = np.full(50, 20.0), np.full(50, 15.9)
    one[7] = 0.0
    assert course(one) is None
    assert course(all_) == (150, "training collapsed by step 150: 15.9 dB after 20.0 dB")
    one[7] = np.nan
    assert course(one) == (108, "the loss is not finite at step 108")


def test_training_without_a_run_folder_is_the_same(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "MAX_ROLLBACKS", 2)
    assert_same(loop.train(TINY, DATA, None)[0], whole[0])
    config = replace(TINY, outer_rate=1e30, warmup=0, on_divergence="rollback")
    with pytest.raises(UserError, match="after 2 roll-backs"):
        loop.train(config, DATA, None)
    assert list(tmp_path.iterdir()) == []


def test_the_count_of_roll_backs_outlives_a_stop(tmp_path, monkeypatch):
    """It is the damping's logarithm: so many in all, however often the command is given again."""
    monkeypatch.setattr(loop, "MAX_ROLLBACKS", 4)
    config = replace(TINY, outer_rate=1e30, warmup=0, on_divergence="rollback")
    restore, calls = Checkpoints.restore, []

    def stopped(self, *args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return restore(self, *args)

    monkeypatch.setattr(Checkpoints, "restore", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", config)
    with pytest.raises(UserError, match="after 4 roll-backs"):
        trained(tmp_path / "run", config)
    events = [row["damping"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")]
    assert min(events) == 2.0**-4
    assert len(calls) == 1 + 1 + 1 + 1 + 3  # starts, roll-backs before and after, the stop
