"""Memory at run time: all that is taken at once counts, also what is given back."""

import mmap
from functools import partial

import pytest
import torch

from prune_torch import compact, memory
from tests.prune_torch.no_zeros import vit

MEGABYTES = 64


def mapped():
    """Memory of the system's own, not of malloc, which may hold some back; all of it touched."""
    pages = mmap.mmap(-1, MEGABYTES * 2**20)
    pages[:: mmap.PAGESIZE] = b"x" * (len(pages) // mmap.PAGESIZE)
    return pages


def fill(times):
    """Take and give back as much, `times` times."""
    for _ in range(times):
        mapped().close()


@pytest.mark.skipif(memory.taken(lambda: None) is None, reason="the system does not tell")
def test_the_most_that_is_taken_at_once_counts():
    assert memory.taken(lambda: None) < 2**20
    for call in (partial(fill, 1), partial(fill, 3)):
        assert memory.taken(call) == pytest.approx(MEGABYTES * 2**20, rel=0.05)
    with mapped() as held:
        assert memory.taken(held.tell) < 2**20  # it was there before


def test_where_the_system_does_not_tell_there_is_no_number(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_resident", lambda name: None)
        assert memory.taken(lambda: None) is None

    def refuse(*_):
        raise OSError("read-only file system")

    monkeypatch.setattr(memory.Path, "write_text", refuse)  # the peak cannot be reset
    assert memory.taken(lambda: None) is None


@pytest.mark.slow
def test_a_network_takes_its_weights_and_more_for_more_images(tmp_path):
    model = vit(torch.float32, embed_dim=384, num_heads=3, mlp_ratio=4)
    compact.save(model, tmp_path / "model.safetensors")
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    one, many = (memory.peak(tmp_path / "model.safetensors", batch) for batch in (1, 1024))
    activations = 4 * 1024 * 5 * 384 * 4  # of the widest layer
    assert weights < one < 4 * weights and many > one + activations
