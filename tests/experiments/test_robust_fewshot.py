"""Few-shot episodes and the labels of CIFAR-10: what is drawn, what is scored, tiny runs."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from experiments import robust_fewshot, robust_labels, robust_labels_cifar10
from groundfloor import plots
from groundfloor.data import datasets
from groundfloor.runs import read_json
from optim_torch.robust import label_rivals


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", val_fraction=0.3)


@pytest.fixture
def clusters():
    """Features (400, 300) and labels of ten far clusters."""
    random = np.random.default_rng(0)
    labels = np.arange(400) % 10
    centres = 5 * random.standard_normal((10, 300))
    return centres[labels] + random.standard_normal((400, 300)), labels


def test_an_episode_keeps_distances_and_has_each_class_as_often(clusters):
    features, labels = clusters
    X, y = robust_fewshot.episode(np.random.default_rng(1), features, labels, [2, 5, 7], 4)
    assert X.shape[1] <= len(X) == 3 * (4 + robust_fewshot.QUERIES)
    assert (np.bincount(y[:12])[[2, 5, 7]] == 4).all()
    assert (np.bincount(y[12:])[[2, 5, 7]] == robust_fewshot.QUERIES).all()
    random = np.random.default_rng(1)
    rows = [random.choice(np.flatnonzero(labels == c), 19, replace=False) for c in (2, 5, 7)]
    original = features[np.array(rows).T.ravel()]
    np.testing.assert_allclose(pairwise_distances(X), pairwise_distances(original), atol=1e-9)


@pytest.mark.parametrize("method", robust_fewshot.METHODS)
def test_every_method_labels_far_clusters_rightly(clusters, method):
    features, labels = robust_fewshot.normalize(clusters[0]), clusters[1]
    drawn = robust_fewshot.episode(np.random.default_rng(2), features, labels, range(5), 2)
    make, options = robust_fewshot.METHODS[method]
    assert max(robust_fewshot.accuracy(make(*option), *drawn) for option in options) == 1


@pytest.mark.slow
def test_few_shots_are_compared_and_a_second_call_adds_nothing(digits, tmp_path, monkeypatch):
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0][:, :20]
    functa = SimpleNamespace(encode=lambda images: (images.reshape(-1, 64) / 255 @ rotation, None))
    calls = []
    monkeypatch.setattr(robust_fewshot.datasets, "load", lambda *_: digits)
    pixels = SimpleNamespace(features=lambda images: images.reshape(-1, 64) / 255)
    monkeypatch.setattr(robust_fewshot, "SmallCnn", lambda *_: pixels)
    monkeypatch.setattr(robust_fewshot.functa_jax, "load", lambda _: calls.append(1) or functa)
    few = ("logistic regression alone", "most confident first", "ICI")
    methods = {name: robust_fewshot.METHODS[name] for name in few}
    methods |= {name: (methods[name][0], methods[name][1][:1]) for name in few[1:]}
    monkeypatch.setattr(robust_fewshot, "METHODS", methods)
    monkeypatch.setattr(robust_fewshot, "SHOTS", (5,))
    config = robust_fewshot.Config(
        datasets=("mnist",),
        seeds=(0,),
        episodes=2,
        choosing=1,
        out=tmp_path / "run",
        results=tmp_path,
    )
    result = robust_fewshot.main(config)
    assert len(result["table"]) == 3 * 3
    alone = [row for row in result["table"] if row["method"] == few[0]]
    assert all(row["gain"]["mean"] == 0 and row["episodes"] == 4 for row in alone)
    assert robust_fewshot.main(config)["table"] == result["table"]
    assert len(calls) == 1
    assert read_json(tmp_path / "robust_fewshot.json")["table"] == result["table"]


@pytest.mark.slow
def test_wrong_labels_of_a_network_s_own_features(digits, tmp_path, monkeypatch):
    few = dataclasses.replace(digits, train=digits.train.take(slice(300)))
    monkeypatch.setattr(robust_labels_cifar10.datasets, "load", lambda *_, **__: few)
    monkeypatch.setattr(robust_labels, "FLIPS", (("symmetric", 0.4), ("pair", 0.4)))
    one = {"least-squares residual": label_rivals.METHODS["least-squares residual"]}
    monkeypatch.setattr(label_rivals, "METHODS", one)
    config = dataclasses.replace(
        robust_labels_cifar10.Config(),
        seeds=(0,),
        tests=100,
        out=tmp_path / "run",
        results=tmp_path,
    )
    result = robust_labels_cifar10.main(config)
    assert len(result["table"]) == 2 * 6
    assert len(result["network_test_accuracy"]) == 2
    halves = [row for row in result["table"] if "half" in row["method"]]
    assert all(row["kept"]["mean"] == pytest.approx(0.5, abs=0.05) for row in halves)
    assert (tmp_path / "robust_labels_cifar10.png").exists()


def test_losses_above_the_median_of_their_class():
    codes = np.array([0, 0, 0, 1, 1, 1])
    losses = np.array([1.0, 2, 3, 30, 20, 10])
    expected = [False, False, True, True, False, False]
    np.testing.assert_array_equal(robust_labels_cifar10.upper_half(losses, codes), expected)
