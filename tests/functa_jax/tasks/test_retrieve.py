"""Retrieval: average precision against scikit-learn's, rankings against a slow one, the command."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.manifold import TSNE
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from functa_jax.tasks import retrieve
from functa_jax.tasks.classification import features
from functa_jax.tasks.retrieval import figures, ranking
from groundfloor import cli
from groundfloor.data import datasets
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def short_maps(monkeypatch):
    """As few steps of t-SNE as it takes, on one thread: busy cores make its threads wait."""
    monkeypatch.setattr(figures, "TSNE", partial(TSNE, max_iter=250))
    with threadpool_limits(1):
        yield


# ---- measures ----


@given(arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 30))))
def test_average_precision_is_that_of_scikit_learn(relevant):
    found = ranking.average_precision(relevant)
    scores = -np.arange(relevant.shape[1])
    for row, value in zip(relevant, found, strict=True):
        if row.any():
            assert value == pytest.approx(average_precision_score(row, scores))
        else:
            assert np.isnan(value)


@pytest.mark.parametrize(
    "hits, expected",
    [([1, 1, 0, 0], 1.0), ([0, 0, 1, 1], (1 / 3 + 2 / 4) / 2), ([0, 0, 0, 1], 0.25)],
)
def test_average_precision_in_closed_form(hits, expected):
    assert ranking.average_precision(np.array([hits], bool))[0] == pytest.approx(expected)


def test_chance_is_the_share_of_the_class():
    relevant = RANDOM.random((50, 5000)) < 0.3
    assert ranking.average_precision(relevant).mean() == pytest.approx(0.3, abs=0.01)


def test_class_means_leave_out_what_has_no_answer():
    values, labels = np.array([1.0, 0.5, np.nan, 0.2]), np.array([0, 0, 0, 2])
    assert ranking.class_means(values, labels, 4) == [0.75, None, 0.2, None]


# ---- ranking ----


def test_search_is_a_sort_by_distance(monkeypatch):
    monkeypatch.setattr(ranking, "BATCH", 4)  # three batches, the last not full
    gallery, queries = RANDOM.normal(size=(60, 3)), RANDOM.normal(size=(10, 3))
    gallery_labels, labels = RANDOM.integers(0, 3, 60), RANDOM.integers(0, 3, 10)
    neighbours, right, precisions = ranking.search(gallery, gallery_labels, queries, labels)
    for number, query in enumerate(queries):
        distances = np.linalg.norm(gallery - query, axis=1)
        order = np.argsort(distances)
        np.testing.assert_array_equal(neighbours[number], order[:10])
        relevant = gallery_labels == labels[number]
        np.testing.assert_array_equal(right[number], relevant[order[:10]])
        assert precisions[number] == pytest.approx(average_precision_score(relevant, -distances))


@pytest.mark.parametrize("name", ranking.DISTANCES)
def test_distances_are_what_they_are_called(name):
    train = RANDOM.normal(size=(200, 4)) @ RANDOM.normal(size=(4, 4)) + 3
    model = ranking.DISTANCES[name]().fit(train)
    a, b = train[:20], train[20:40]
    found = np.linalg.norm(model.transform(a) - model.transform(b), axis=1)
    middle = train.mean(axis=0) * (name == "cosine, centred")
    cosine = ((a - middle) * (b - middle)).sum(axis=1)
    cosine /= np.linalg.norm(a - middle, axis=1) * np.linalg.norm(b - middle, axis=1)
    inverse = {"Euclidean": np.eye(4), "standardised": np.diag(1 / train.var(axis=0))}
    inverse["whitened"] = np.linalg.inv(np.cov(train, rowvar=False))
    if name in inverse:
        expected = np.sqrt(np.einsum("ni,ij,nj->n", a - b, inverse[name], a - b))
    else:
        expected = np.sqrt(2 - 2 * cosine)
    np.testing.assert_allclose(found, expected, rtol=1e-6 if name != "whitened" else 1e-4)


def test_pixels_that_never_change_are_no_part_of_whitened_ones():
    rows = RANDOM.normal(size=(200, 3)) @ RANDOM.normal(size=(3, 3))
    framed = np.concatenate([rows, np.full((200, 2), 0.5), rows[:, :1]], axis=1)  # one twice
    whitened = [ranking.Whitening().fit(x).transform(x) for x in (rows, framed)]
    assert whitened[1].shape == (200, 3)
    expected, found = (np.linalg.norm(x[:100] - x[100:], axis=1) for x in whitened)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_pixels_have_the_whitened_distance_too():
    """Two pixels that are nearly equal: what tells the class is how they differ."""

    def split(n):
        labels = np.arange(n) % 2
        both, apart = RANDOM.normal(size=n), 0.02 * (labels - 0.5) + 0.001 * RANDOM.normal(size=n)
        rows = np.stack([both + apart, both - apart, np.ones(n)], 1)
        return datasets.Split(np.zeros((n, 1, 1, 1), np.uint8), labels, np.arange(n)), rows

    splits, rows = zip(split(100), split(40), split(30), strict=True)
    data = datasets.Dataset("two", *splits, 2, "")
    row, _ = ranking.measure(features.Features("pixels", *rows, None, 0), data, 20)
    assert row["distance"] == "whitened" and row["mAP"] > 0.9


def test_the_distance_is_chosen_on_validation_and_features_ignore_no_image():
    """Only the second number knows the class; the first is larger: standardising it wins."""

    def split(n):
        labels = np.arange(n) % 2
        rows = np.stack([50 * RANDOM.normal(size=n), labels + 0.1 * RANDOM.normal(size=n)], 1)
        return datasets.Split(np.zeros((n, 1, 1, 1), np.uint8), labels, np.arange(n)), rows

    splits, rows = zip(split(100), split(40), split(30), strict=True)
    data = datasets.Dataset("two", *splits, 2, "")
    row, found = ranking.measure(features.Features("latents", *rows, None, 0), data, 20)
    assert row["distance"] in ("standardised", "whitened") and row["mAP"] > 0.9
    assert len(found.labels) == len(found.neighbours) == 20
    np.testing.assert_array_equal(found.labels, data.test.labels[found.places])


# ---- the command ----


def command(*args):
    return cli.run(retrieve.main, retrieve.Config, args=[str(arg) for arg in args])


def test_command_reports_latents_pca_and_pixels(grids, tmp_path, capsys):
    command("--run", grids, "--out", tmp_path, "--queries", 20, "--points", 20)
    report = json.loads((tmp_path / "retrieve.json").read_text())
    assert [row["features"] for row in report["rows"]] == ["latents", "PCA", "pixels"]
    numbers = report["numbers"]
    assert [row["numbers"] for row in report["rows"]] == [numbers, numbers, 64]
    for row in report["rows"]:
        assert 0 < row["mAP"] <= 1 and 0 < row["precision@1"] <= 1
        assert "class 9" in row
    assert report["rows"][2]["precision@1"] > 0.5  # digits are easy for pixels
    assert {path.name for path in tmp_path.iterdir()} == {"retrieve.json", *report["figures"]}
    assert "20 test images ask, 60 of train answer" in capsys.readouterr().out


def test_figures_take_pictures_with_opacity_and_single_numbers(tmp_path):
    n = 12
    images = RANDOM.integers(0, 256, (n, 4, 4, 2)).astype(np.uint8)
    split = datasets.Split(images, np.arange(n) % 2, np.arange(n))
    data = datasets.Dataset("x", split, split, split, 2, "")
    rows = RANDOM.normal(size=(n, 1))
    _, found = ranking.measure(features.Features("latents", rows, rows, rows, None, 0), data, 20)
    best = {"latents": found, "pixels": found}
    figures.neighbour_figure(tmp_path / "a.png", best, data)
    figures.map_figure(tmp_path / "b.png", best, data, 10, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


@pytest.mark.parametrize("flag", ["--queries", "--points"])
def test_command_refuses_too_few(flag, grids, capsys):
    assert flag in refusal(capsys, lambda: command("--run", grids, flag, 1))


def test_command_refuses_a_folder_without_run(capsys, tmp_path):
    assert "does not exist" in refusal(capsys, lambda: command("--run", tmp_path / "none"))
