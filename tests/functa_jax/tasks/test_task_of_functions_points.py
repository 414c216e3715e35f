"""Tasks that need common points say so where functions have none."""

import numpy as np
import pytest

from functa_jax.modalities import loading
from functa_jax.tasks import task
from groundfloor.data.functions import Functions, FunctionSet, fingerprint


def made(coords, mask=None):
    numbers = np.arange(2)
    split = Functions(np.zeros((2, 3, 1), np.float32), coords, numbers, numbers, mask)
    return FunctionSet("made up", "functions", split, split, split, 2, fingerprint(split))


def test_functions_with_points_of_their_own_have_none_in_common():
    task.require_common_points(made(np.zeros((3, 2), np.float32)))
    for data in (
        made(np.zeros((2, 3, 2), np.float32)),
        made(np.zeros((3, 2), np.float32), np.ones((2, 3), bool)),
    ):
        with pytest.raises(task.NotForThese, match="made up have no points in common"):
            task.require_common_points(data)


def test_a_name_of_images_stays_one_whatever_lies_beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "mnist", "volumes"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", np.zeros((2, 2, 2)))
    assert [loading.is_of_functions(name) for name in ("digits", "mnist")] == [False, False]
    assert loading.is_of_functions("volumes")
