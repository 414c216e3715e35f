"""training_steps: every step once, looks where they belong, and a stop anywhere loses nothing."""

import tempfile
from pathlib import Path
from unittest import mock

import torch
from hypothesis import given
from hypothesis import strategies as st

from groundfloor.pytorch import batches, checkpoints
from groundfloor.pytorch.steps import training_steps

counts = st.integers(1, 12)


@given(st.integers(0, 20), counts, counts, counts)
def test_a_look_follows_every_few_steps_of_an_epoch_and_its_end(first, every, epoch, epochs):
    last = epoch * epochs
    seen = dict(training_steps(first, last, every=every, epoch=epoch))
    assert list(seen) == list(range(first, last))
    for step, look in seen.items():
        done = step % epoch + 1
        assert look == (done in range(every, epoch, every) or done == epoch)
    alone = dict(training_steps(0, last, every=every))
    assert alone == {step: (step + 1) % every == 0 or step + 1 == last for step in range(last)}


@given(st.integers(1, 30), counts, st.integers(0, 30), st.booleans())
def test_a_stopped_sum_goes_on_to_the_same_number(last, every, stop, often):
    """The state is a sum of draws of the steps' own random states; stopped once before `stop`."""

    def run(folder, stop=None):
        kept = checkpoints.newest(folder, "cpu") or {"step": 0, "sum": torch.zeros(())}
        total = kept["sum"]

        def state():
            return {"step": step + 1, "sum": total}

        for step, _ in training_steps(kept["step"], last, every=every, folder=folder, state=state):
            if step == stop:
                return None
            batches.seed_step(7, step)
            total = total + torch.rand(())
        return total

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        whole = run(Path(one))
        with mock.patch("groundfloor.pytorch.steps.SECONDS", 0 if often else 1000):
            run(Path(two), stop)
            kept = checkpoints.newest(Path(two), "cpu")
            reached = last if stop >= last else stop // every * every if often else 0
            assert (kept["step"] if kept else 0) == reached
            assert torch.equal(run(Path(two)), whole)
