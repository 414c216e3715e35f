"""What is traced once serves all trainings of a session whose outer steps are the same."""

from dataclasses import fields
from functools import cache

import pytest

from functa_jax.training import outer_loop
from functa_jax.training.config import OuterConfig


@pytest.fixture(scope="session", autouse=True)
def one_trace_for_equal_steps():
    make_train = cache(outer_loop.make_train)

    def shared(model, outer, mesh, streamed=False):
        part = {field.name: getattr(outer, field.name) for field in fields(OuterConfig)}
        return make_train(model, OuterConfig(**part), mesh, streamed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outer_loop, "make_train", shared)
        yield
