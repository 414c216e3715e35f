"""Memory at run time: all that is taken at once counts, also what is given back."""

from functools import partial

import pytest
import torch

from prune_torch import compact, memory
from tests.prune_torch.no_zeros import vit

MEGABYTES = 64


def fill(times):
    """Take and give back as much, `times` times."""
    for _ in range(times):
        torch.ones(MEGABYTES * 2**18)


@pytest.mark.skipif(memory.taken(lambda: None) is None, reason="the system does not tell")
def test_the_most_that_is_taken_at_once_counts():
    assert memory.taken(lambda: None) < 2**20
    for call in (partial(fill, 1), partial(fill, 3)):
        assert memory.taken(call) == pytest.approx(MEGABYTES * 2**20, rel=0.05)
    held = torch.ones(MEGABYTES * 2**18)
    assert memory.taken(lambda: held.sum()) < 2**23  # it was there before


def test_where_the_system_does_not_tell_there_is_no_number(monkeypatch):
    monkeypatch.setattr(memory, "_resident", lambda name: None)
    assert memory.taken(lambda: None) is None


@pytest.mark.slow
def test_a_network_takes_its_weights_and_more_for_more_images(tmp_path):
    model = vit(torch.float32, embed_dim=384, num_heads=3, mlp_ratio=4)
    compact.save(model, tmp_path / "model.safetensors")
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    one, many = (memory.peak(tmp_path / "model.safetensors", batch) for batch in (1, 1024))
    activations = 4 * 1024 * 5 * 384 * 4  # of the widest layer
    assert weights < one < 4 * weights and many > one + activations
