"""One undisturbed training, shared by the tests of training."""

import shutil
from pathlib import Path

import pytest

from tests.functa_jax.training.tiny import trained


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """(functa, run folder) of an undisturbed training."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return trained(folder), folder


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of the run folder of a training."""
    return Path(shutil.copytree(whole[1], tmp_path / "copy"))
