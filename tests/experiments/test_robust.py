"""Experiments on robust statistics: their own mathematics, and that each runs, tiny."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from experiments import robust_knockoffs, robust_lista, robust_msplit, robust_pca
from groundfloor.runs import read_json


def test_pursuit_separates_what_is_low_rank_from_what_is_sparse():
    random = np.random.default_rng(0)
    low = random.standard_normal((60, 2)) @ random.standard_normal((2, 40))
    sparse = np.where(random.random(low.shape) < 0.05, 5 * random.standard_normal(low.shape), 0)
    L, S = robust_pca.pursuit(low + sparse, 1000)
    np.testing.assert_allclose(L + S, low + sparse, atol=1e-3)
    np.testing.assert_allclose(L, low, atol=1e-3)


def test_benjamini_hochberg_is_the_step_up_of_regression_t_tests():
    random = np.random.default_rng(1)
    X = random.standard_normal((40, 6))
    y = X[:, 0] + 0.4 * X[:, 1] + random.standard_normal(40)
    design = np.column_stack([np.ones(40), X])
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ y
    variance = ((y - design @ beta) ** 2).sum() / 33
    t = (beta / np.sqrt(variance * np.diag(inverse)))[1:]
    p = 2 * robust_knockoffs.student.sf(np.abs(t), 33)
    below = [k for k in range(1, 7) if np.sort(p)[k - 1] <= 0.2 * k / 6]
    expected = p <= np.sort(p)[max(below) - 1]
    np.testing.assert_array_equal(robust_knockoffs.benjamini_hochberg(X, y, 0.2), expected)


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    few = SimpleNamespace(data=load_digits().data[:300])
    monkeypatch.setattr(robust_pca, "load_digits", lambda: few)


@pytest.mark.parametrize(
    "experiment, settings, rows",
    [
        (robust_knockoffs, {"sets": 2, "strengths": (0.4,)}, 8),
        pytest.param(
            robust_lista,
            {"seeds": (0,), "rows": 25, "columns": 200, "layers": 2, "steps": 2, "joint": 2},
            14,
            marks=pytest.mark.slow,
        ),
        pytest.param(robust_msplit, {"seeds": (0, 1)}, 10, marks=pytest.mark.slow),
        (robust_pca, {"seeds": (0,), "shares": (0.1,), "iterations": 3}, 6),
    ],
)
def test_each_writes_its_table_and_picture(experiment, settings, rows, tmp_path):
    if hasattr(experiment.Config, "out"):
        settings = settings | {"out": tmp_path / "run"}
    config = dataclasses.replace(experiment.Config(), results=tmp_path, **settings)
    experiment.main(config)
    name = experiment.__name__.rpartition(".")[2]
    assert len(read_json(tmp_path / f"{name}.json")["table"]) == rows
    assert (tmp_path / f"{name}.png").exists()
