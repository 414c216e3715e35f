"""The experiments of robust statistics: their data hold what they say, and they end."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import kendalltau

from experiments import robust_labels, robust_masking, robust_ranking
from groundfloor.data import datasets
from groundfloor.runs import read_json
from optim_torch import robust
from optim_torch.robust import label_rivals


def test_rankings_are_compared_and_wrong_answers_cost_least_squares_most(tmp_path, monkeypatch):
    for name, values in (("COUNTS", (240,)), ("FLIPS", (0.0, 0.3)), ("ANSWERS", ("graded",))):
        monkeypatch.setattr(robust_ranking, name, values)
    result = robust_ranking.main(robust_ranking.Config(seeds=2, results=tmp_path))
    none, some = result["table"]
    assert none["tau_least_squares"]["mean"] > 0.9
    assert some["tau_robust"]["mean"] > some["tau_least_squares"]["mean"]
    assert some["auc_path"]["mean"] > some["auc_residual"]["mean"]
    assert read_json(tmp_path / "robust_ranking.json") == result
    assert (tmp_path / "robust_ranking.png").exists()


def test_consistent_answers_give_bradley_and_terry_the_true_ranking():
    truth = np.random.default_rng(0).standard_normal(robust_ranking.ITEMS)
    pairs = np.argwhere(np.triu(np.ones((robust_ranking.ITEMS,) * 2), 1))
    C = np.eye(robust_ranking.ITEMS)[pairs[:, 0]] - np.eye(robust_ranking.ITEMS)[pairs[:, 1]]
    scores = robust_ranking.bradley_terry(C, truth[pairs[:, 0]] - truth[pairs[:, 1]])
    assert kendalltau(scores, truth)[0] == pytest.approx(1)


def test_outliers_that_mask_each_other_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(robust_masking, "SETTINGS", ((None, 200),))
    monkeypatch.setattr(robust_masking, "CLUSTER", (1, 20))
    monkeypatch.setattr(robust_masking, "PENALTIES", ("hard",))
    result = robust_masking.main(robust_masking.Config(seeds=2, results=tmp_path))
    masked = {row["method"]: row["masked"]["mean"] for row in result["table"]}
    assert masked["studentised"] > 0.5 > masked["γ, hard"]
    alone, many = (row["t"]["mean"] for row in result["cluster"])
    assert alone > 4 > many


def test_labels_of_all_kinds_are_compared_and_drawn(tmp_path, monkeypatch):
    digits = datasets.load("digits", images=200, val_fraction=0)
    monkeypatch.setattr(robust_labels.datasets, "load", lambda *_, **__: digits)
    monkeypatch.setattr(robust_labels, "FLIPS", (("symmetric", 0.2), ("pair", 0.4)))
    monkeypatch.setattr(robust_labels, "FEATURES", {"pca": 20, "kernel": 40})
    few = {
        name: label_rivals.METHODS[name] for name in ("path of shifts", "least-squares residual")
    }
    monkeypatch.setattr(label_rivals, "METHODS", few)
    config = dataclasses.replace(robust_labels.Config(), images=200, seeds=(0,), results=tmp_path)
    result = robust_labels.main(config)
    assert len(result["table"]) == 2 * 2 * 4
    assert (tmp_path / "robust_labels.png").exists()


def test_public_names_are_there():
    for name in robust.__all__:
        assert getattr(robust, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = robust.nothing
