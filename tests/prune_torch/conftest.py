"""A tiny ViT on digits with a few training steps behind it: the dense network of all tests."""

import pytest
import torch

from prune_torch.protocol import figures
from tests.prune_torch import tiny

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bench():
    return tiny.bench()


@pytest.fixture
def without_pictures(monkeypatch):
    for name in ("accuracy", "difference", "layers", "cost", "groups"):
        monkeypatch.setattr(figures, name, lambda *_: None)
