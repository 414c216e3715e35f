"""Rankings: Hodge's orthogonal parts, invariances of a comparison graph, one wrong comparison."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from optim_torch.robust import ranking
from optim_torch.robust.mean_shift import MeanShiftRegressor
from optim_torch.robust.ranking import RobustRanker, hodge

COMPLETE = np.array([*combinations(range(6), 2)])


def comparisons(seed=0, items=12, count=150, wrong=0.2):
    """pairs (m, 2), graded answers, which of them are turned round, scores."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal(items)
    pairs = random.integers(0, items, (count, 2))
    chain = np.column_stack([np.arange(items - 1), np.arange(1, items)])
    pairs = np.r_[pairs[pairs[:, 0] != pairs[:, 1]], chain]
    y = scores[pairs[:, 0]] - scores[pairs[:, 1]] + 0.2 * random.standard_normal(len(pairs))
    bad = random.random(len(pairs)) < wrong
    return pairs, np.where(bad, -y, y), bad, scores


@given(st.integers(0, 10**6), st.integers(3, 9))
def test_the_three_flows_are_orthogonal_and_add_up(seed, items):
    pairs, y, _, _ = comparisons(seed, items, 3 * items)
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(y))
    parts = hodge(pairs, y, weights)
    flows = [parts.gradient, parts.curl, parts.harmonic]
    np.testing.assert_allclose(sum(flows), parts.flow)
    for one, two in combinations(flows, 2):
        assert parts.weights @ (one * two) == pytest.approx(0, abs=1e-8)
    assert sum(parts.shares.values()) == pytest.approx(1)
    loops = ranking._triangles(parts.edges, len(parts.items))
    C = ranking._incidence(parts.edges, len(parts.items))
    assert abs(loops @ C).sum() == 0  # a gradient has no curl
    np.testing.assert_allclose(loops @ parts.harmonic, 0, atol=1e-8)
    np.testing.assert_allclose(C.T @ (parts.weights * parts.harmonic), 0, atol=1e-8)


def test_triangles_are_those_of_the_graph():
    pairs, y, _, _ = comparisons(items=8, count=15)
    parts = hodge(pairs, y)
    edges = {tuple(edge) for edge in parts.edges.tolist()}
    brute = [t for t in combinations(range(8), 3) if set(combinations(t, 2)) <= edges]
    assert ranking._triangles(parts.edges, 8).shape[0] == len(brute)


def test_a_cycle_of_four_is_harmonic_and_one_of_three_is_curl():
    square = hodge([[0, 1], [1, 2], [2, 3], [3, 0]])
    assert square.shares == pytest.approx({"gradient": 0, "curl": 0, "harmonic": 1})
    triangle = hodge([[0, 1], [1, 2], [2, 0]])
    assert triangle.shares == pytest.approx({"gradient": 0, "curl": 1, "harmonic": 0})


def test_one_wrong_comparison_among_consistent_ones_is_alone_on_the_path():
    scores = np.random.default_rng(0).standard_normal(6)
    y = scores[COMPLETE[:, 0]] - scores[COMPLETE[:, 1]]
    y[7] += 2
    model = RobustRanker(threshold=1e-3).fit(COMPLETE, y)
    assert list(np.flatnonzero(model.entry_ > 1e-3)) == [7]
    assert list(np.flatnonzero(model.outlier_)) == [7]
    np.testing.assert_allclose(model.scores_, scores - scores.mean(), atol=1e-9)
    assert model.shift_[7] == pytest.approx(2)


@pytest.mark.parametrize("exact", [True, False])
def test_names_directions_and_consistent_answers_do_not_matter(exact, monkeypatch):
    if not exact:
        monkeypatch.setattr(ranking, "EXACT", 0)
    pairs, y, _, _ = comparisons()
    one = RobustRanker().fit(pairs, y)
    names = np.array(list("lkjihgfedcba"))
    turned = np.random.default_rng(1).random(len(y)) < 0.5
    swapped = np.where(turned[:, None], pairs[:, ::-1], pairs)
    two = RobustRanker().fit(names[swapped], np.where(turned, -y, y))
    np.testing.assert_allclose(two.entry_, one.entry_, atol=1e-5)
    np.testing.assert_array_equal(two.outlier_, one.outlier_)
    np.testing.assert_allclose(two.scores_[::-1], one.scores_, atol=1e-6)
    assert list(two.ranking_) == list(names[one.ranking_])
    more = np.linspace(-3, 3, 12)
    three = RobustRanker().fit(pairs, y + more[pairs[:, 0]] - more[pairs[:, 1]])
    np.testing.assert_allclose(three.entry_, one.entry_, atol=1e-5)
    np.testing.assert_allclose(three.scores_ - more, one.scores_, atol=1e-5)


def test_the_grid_follows_the_exact_path(monkeypatch):
    pairs, y, bad, scores = comparisons()
    exact = RobustRanker().fit(pairs, y)
    monkeypatch.setattr(ranking, "EXACT", 0)
    grid = RobustRanker().fit(pairs, y)
    early = exact.entry_ > 0.3 * exact.entry_.max()
    np.testing.assert_allclose(grid.entry_[early], exact.entry_[early], rtol=0.05)
    for model in (exact, grid):
        assert kendalltau(model.scores_, scores)[0] > 0.9
        assert bad[model.outlier_].mean() > 0.8


def test_it_is_regression_on_differences_of_items():
    pairs, y, _, _ = comparisons()
    C = np.eye(12)[pairs[:, 0]] - np.eye(12)[pairs[:, 1]]
    other = MeanShiftRegressor(threshold=0.3, fit_intercept=False).fit(C, y)
    ours = RobustRanker(threshold=0.3).fit(pairs, y)
    np.testing.assert_allclose(ours.entry_, other.entry_, atol=1e-10)
    np.testing.assert_array_equal(ours.outlier_, other.outlier_)


def test_without_wrong_comparisons_it_is_hodge_rank_and_a_tree_has_no_contradiction():
    pairs, y, _, _ = comparisons()
    top = RobustRanker(threshold=1e6).fit(pairs, y)
    np.testing.assert_allclose(top.scores_, hodge(pairs, y).scores, atol=1e-8)
    difference = top.scores_[pairs[:, 0]] - top.scores_[pairs[:, 1]]
    np.testing.assert_allclose(top.predict(pairs), difference)
    tree = RobustRanker().fit([["a", "b"], ["a", "c"], ["c", "d"]], [1, 2, 3])
    assert not tree.outlier_.any() and tree.inconsistency_ == pytest.approx(0, abs=1e-12)
    assert list(tree.ranking_) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_a_given_threshold_is_kept_and_the_large_residuals_are_those_beyond_it(threshold):
    pairs, y, _, _ = comparisons(count=300, wrong=0)
    model = RobustRanker(threshold=threshold).fit(pairs, y)
    assert model.threshold_ == threshold
    np.testing.assert_array_equal(model.outlier_, model.entry_ > threshold)


def test_a_threshold_that_takes_the_items_apart_is_refused():
    loop = [["a", "b"], ["b", "c"], ["c", "d"], ["d", "a"]]
    fitted = RobustRanker(threshold=0.21).fit(loop, [0.2, 0.2, 0.2, 0.2])
    assert not fitted.outlier_.any()
    with pytest.raises(ValueError, match=r"threshold 0\.1 leaves 4 of 4 comparisons out"):
        RobustRanker(threshold=0.1).fit(loop, [0.2, 0.2, 0.2, 0.2])


def test_an_annotator_who_answers_the_wrong_way_round_is_seen():
    pairs, y, _, _ = comparisons(count=300, wrong=0)
    names = np.array(["ann", "bob", "eve"])[np.arange(len(y)) % 3]
    model = RobustRanker().fit(pairs, np.where(names == "eve", -y, y), annotators=names)
    assert model.annotator_error_["eve"] > 0.6
    assert max(model.annotator_error_["ann"], model.annotator_error_["bob"]) < 0.4


def test_impossible_comparisons_are_refused_by_name():
    for pairs, y, told in (
        ([["a", "b"], ["c", "d"]], None, "a, b ... and c, d"),
        ([["a", "b"], ["c", "c"]], None, "c is compared with itself"),
        ([[0, 1], [1, 2]], [1, np.nan], "NaN"),
        ([[0, 1, 2]], None, "shape"),
    ):
        with pytest.raises(ValueError, match=told):
            RobustRanker().fit(pairs, y)
    with pytest.raises(ValueError, match="9"):
        RobustRanker().fit([[0, 1], [1, 2]]).predict([[0, 9]])
