"""No pictures but where a test looks at them."""

import pytest

from optim_torch.training import figures
from tests.optim_torch.training.runs import PICTURES


@pytest.fixture(autouse=True)
def without_pictures(request, monkeypatch):
    """They take longer than the training; one test looks at them."""
    if "report" not in request.node.name:
        for name in PICTURES:
            monkeypatch.setattr(figures, name, lambda *_: None)
