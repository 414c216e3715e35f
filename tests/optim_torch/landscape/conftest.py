"""Digits, and few pictures, for all tests of landscapes."""

import pytest

from groundfloor import plots
from optim_torch.landscape import figures
from optim_torch.landscape.settings import load_data
from tests.optim_torch.landscape.tiny import TINY


@pytest.fixture(autouse=True)
def few_pictures(request, monkeypatch):
    """Coarse ones; the command's own, which take longer than its training, in one test."""
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
    if "draws" not in request.node.name:
        monkeypatch.setattr(figures, "draw", lambda *_: None)


@pytest.fixture(scope="module")
def digits():
    return load_data(TINY)
