"""No pictures and no estimates of time but where a test looks at them."""

import pytest

from optim_torch.training import figures, loop
from tests.optim_torch.training.runs import PICTURES


@pytest.fixture(autouse=True)
def without_pictures(request, monkeypatch):
    """They take longer than the training; one test looks at them."""
    if "report" not in request.node.name:
        monkeypatch.setattr(loop, "_announce", lambda *_: None)
        for name in PICTURES:
            monkeypatch.setattr(figures, name, lambda *_: None)
