"""Knockoffs and split knockoffs: covariance equations, exchangeability, the rate by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.linear_model import Lasso
from sklearn.utils.estimator_checks import parametrize_with_checks

from optim_torch.robust.bregman_path import graph_differences
from optim_torch.robust.knockoffs import (
    ENTRIES,
    Knockoffs,
    fixed_x,
    gaussian,
    gaussian_gap,
    knockoff_threshold,
    lasso_entry,
)
from optim_torch.robust.split_knockoffs import (
    SplitKnockoffs,
    relaxed_design,
    split_copies,
    split_lasso_path,
)

SEEDS = st.integers(0, 2**32 - 1)
CHAIN = graph_differences(grid_to_graph(1, 8)).toarray()
D_OF = {"identity": np.eye(8), "fused": CHAIN, "both": np.vstack([CHAIN, np.eye(8)])}


@parametrize_with_checks(
    [Knockoffs(construction="gaussian")],
    expected_failed_checks=lambda _: {
        "check_transformer_data_not_an_array": "may choose no column, of which scikit-learn warns"
    },
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def unit_columns(seed, n, d, correlation=0.5):
    random = np.random.RandomState(seed)
    X = random.standard_normal((n, d)) @ np.linalg.cholesky(toeplitz(correlation ** np.arange(d))).T
    X = X - X.mean(0)
    return X / np.linalg.norm(X, axis=0), random


# Covariance equations.


@settings(max_examples=20)
@given(SEEDS)
def test_fixed_copies_have_the_same_correlations(seed):
    X, random = unit_columns(seed, 30, 8)
    copies = fixed_x(X, random)
    gram = X.T @ X
    s = min(2 * np.linalg.eigvalsh(gram)[0], 1)
    np.testing.assert_allclose(copies.T @ copies, gram, atol=1e-10)
    np.testing.assert_allclose(X.T @ copies, gram - s * np.eye(8), atol=1e-10)
    np.testing.assert_allclose(copies.sum(0), 0, atol=1e-10)


def test_gaussian_copies_have_the_same_moments():
    covariance = toeplitz(0.6 ** np.arange(4)) * np.outer([1, 2, 3, 1], [1, 2, 3, 1])
    random = np.random.RandomState(0)
    X = random.multivariate_normal(np.zeros(4), covariance, 200_000)
    joint = np.cov(np.hstack([X, gaussian(X, covariance, random)]).T)
    off = covariance - np.diag(gaussian_gap(covariance))
    expected = np.block([[covariance, off], [off, covariance]])
    deviations = np.sqrt(np.diag(expected))
    # The error of a correlation from n rows has a standard deviation of at most 1/sqrt(n).
    errors = (joint - expected) / np.outer(deviations, deviations)
    assert np.abs(errors).max() < 5 * np.sqrt(2 / 200_000)


@settings(max_examples=20)
@given(SEEDS, st.sampled_from(sorted(D_OF)), st.floats(0.5, 50))
def test_split_copies_have_the_same_correlations(seed, structure, nu):
    X, random = unit_columns(seed, 40, 8)
    X, D = np.sqrt(40) * X, D_OF[structure]
    copies = split_copies(X, D, nu, random)
    A_beta, A_gamma = relaxed_design(X, D, nu)
    gap = A_gamma.T @ (A_gamma - copies)
    np.testing.assert_allclose(copies.T @ copies, np.eye(len(D)) / nu, atol=1e-10)
    np.testing.assert_allclose(A_gamma.T @ A_gamma, np.eye(len(D)) / nu, atol=1e-10)
    np.testing.assert_allclose(A_beta.T @ copies, A_beta.T @ A_gamma, atol=1e-10)
    np.testing.assert_allclose(gap, gap[0, 0] * np.eye(len(D)), atol=1e-10)
    assert gap[0, 0] > 0


# Statistics.


@settings(max_examples=10)
@given(SEEDS, st.sampled_from(sorted(ENTRIES)))
def test_swapping_a_column_with_its_copy_turns_the_sign_alone(seed, statistic):
    X, random = unit_columns(seed, 30, 5)
    y = X[:, 0] * 3 + random.standard_normal(30)
    y -= y.mean()
    both = np.sqrt(30) * np.hstack([X, fixed_x(X, random)])
    swapped = both.copy()
    swapped[:, [1, 6]] = both[:, [6, 1]]
    entry, other = ENTRIES[statistic](both, y), ENTRIES[statistic](swapped, y)
    order = np.arange(10)
    order[[1, 6]] = 6, 1
    np.testing.assert_allclose(other, entry[order], rtol=1e-6)


def test_entries_of_an_orthogonal_design_are_the_correlations():
    X, random = unit_columns(0, 30, 5)
    X = np.linalg.qr(X)[0] * np.sqrt(30)
    y = random.standard_normal(30)
    y -= y.mean()
    expected = np.abs(X.T @ y) / 30
    np.testing.assert_allclose(lasso_entry(X, y)[:4], expected[:4], rtol=1e-6)
    largest = expected.max()
    late = largest / ENTRIES["lbi"](X, y) - largest / expected
    assert ((late > -1e-9) & (late <= 0.1 + 1e-9)).all()  # a step of LBI


@settings(max_examples=10)
@given(SEEDS, st.sampled_from(sorted(D_OF)), st.floats(0.01, 1))
def test_split_statistics_are_entries_of_a_lasso(seed, structure, share):
    """Against scikit-learn's lasso on A_γ and on its copies, at a penalty below the largest."""
    X, random = unit_columns(seed, 40, 8)
    X, D, nu = np.sqrt(40) * X, D_OF[structure], 2.0
    _, A_gamma = relaxed_design(X, D, nu)
    residual = random.standard_normal(len(A_gamma))
    for columns in (A_gamma, split_copies(X, D, nu, random)):
        entry = np.abs(columns.T @ residual)
        penalty = share * entry.max()
        lasso = Lasso(alpha=penalty / len(columns), fit_intercept=False, tol=1e-12)
        shrunk = nu * np.sign(columns.T @ residual) * np.maximum(entry - penalty, 0)
        np.testing.assert_allclose(lasso.fit(columns, residual).coef_, shrunk, atol=1e-7)


def test_the_split_lasso_is_optimal():
    X, random = unit_columns(3, 40, 8)
    X, nu, penalty = np.sqrt(40) * X, 2.0, 0.1
    y = X @ np.repeat([0.0, 1.0], 4) + random.standard_normal(40)
    y -= y.mean()
    beta = split_lasso_path(X, y, CHAIN, nu, [penalty])[:, 0]
    gamma = np.sign(CHAIN @ beta) * np.maximum(np.abs(CHAIN @ beta) - nu * penalty, 0)
    slope = X.T @ (X @ beta - y) / 40 + CHAIN.T @ (CHAIN @ beta - gamma) / nu
    assert gamma.any()
    np.testing.assert_allclose(slope, 0, atol=1e-3)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=20), st.sampled_from([0, 1]))
def test_the_threshold_is_the_smallest_allowed(values, offset):
    W, q = np.array(values, float), 0.3
    found = knockoff_threshold(W, q, offset)
    allowed = [
        t
        for t in sorted(set(np.abs(W)) - {0.0})
        if (offset + sum(-t >= W)) / max(sum(t <= W), 1) <= q
    ]
    assert found == min(allowed, default=np.inf)


def test_the_signs_of_d_turn_the_signs_found_and_nothing_else():
    X, random = unit_columns(0, 100, 8)
    y = 30 * X[:, 0] - 30 * X[:, 3] + random.standard_normal(100)
    flip = np.array([-1, 1, 1, -1, 1, 1, 1, 1])[:, None]
    one, other = (
        SplitKnockoffs(D=D, q=0.5, offset=0, random_state=3).fit(10 * X, y)
        for D in (np.eye(8), flip * np.eye(8))
    )
    np.testing.assert_allclose(other.W_[[0, 3]], one.W_[[0, 3]])
    np.testing.assert_array_equal(other.sign_, flip[:, 0] * one.sign_)


# The rate, by simulation: mean share of wrong ones within 3 standard errors of q. Copies and data
# must not come from the same seed: they would be the same numbers.


def rates(estimator, structure, n, correlation=0.3, sets=60):
    """Share of wrong ones among those selected, and of the true ones found, (sets, 2)."""
    D = {"identity": np.eye(20), "fused": graph_differences(grid_to_graph(1, 20)).toarray()}
    beta = np.repeat([0, 1.0, 0, -1.0, 0], 4) if structure == "fused" else np.zeros(20)
    if structure == "identity":
        beta[::3] = 1
    truth = D[structure] @ beta != 0
    shares = []
    for seed in range(sets):
        X, random = unit_columns(seed, n, 20, correlation)
        X = np.sqrt(n) * X
        y = X @ beta + random.standard_normal(n)
        chosen = estimator(seed, D[structure], X, y)
        wrong = (chosen & ~truth).sum() / max(chosen.sum(), 1)
        shares.append((wrong, (chosen & truth).sum() / truth.sum()))
    return np.array(shares)


@pytest.mark.parametrize(
    "options",
    [
        {"statistic": "lasso"},
        {"statistic": "lbi"},
        {"construction": "gaussian"},
    ],
)
def test_knockoffs_keep_their_rate(options):
    def chosen(seed, D, X, y):
        return Knockoffs(q=0.25, random_state=1000 + seed, **options).fit(X, y).get_support()

    wrong, found = rates(chosen, "identity", n=80, sets=40).T
    assert wrong.mean() <= 0.25 + 3 * wrong.std() / np.sqrt(len(wrong))
    assert found.mean() > 0.6


@pytest.mark.parametrize("structure", ["identity", "fused"])
def test_split_knockoffs_keep_their_rate(structure):
    def chosen(seed, D, X, y):
        return SplitKnockoffs(D, q=0.25, random_state=1000 + seed).fit(X, y).selected_

    wrong, found = rates(chosen, structure, n=200, sets=30).T
    assert wrong.mean() <= 0.25 + 3 * wrong.std() / np.sqrt(len(wrong))
    assert found.mean() > 0.4


def test_without_any_effect_seldom_anything_is_chosen():
    """All null: the rate is the probability to choose at all."""
    chosen = []
    for seed in range(60):
        X, random = unit_columns(seed, 60, 10)
        y = random.standard_normal(60)
        chosen.append(Knockoffs(q=0.25, random_state=1000 + seed).fit(X, y).get_support().any())
    assert np.mean(chosen) <= 0.25 + 3 * np.sqrt(0.25 * 0.75 / 60)


X8 = np.random.RandomState(0).standard_normal((40, 8))


@pytest.mark.parametrize(
    "model, X, message",
    [
        (Knockoffs(q=1), X8, "q 1: must lie between"),
        (Knockoffs(statistic="ols"), X8, "statistic 'ols'"),
        (Knockoffs(construction="x"), X8, "construction 'x'"),
        (Knockoffs(), X8[:16], r"need 2d \+ 1 = 17 rows; n_samples = 16"),
        (Knockoffs(), X8[:, [0, 1, 1]], "linearly independent"),
        (Knockoffs(), np.ones((20, 2)), "every column of X is constant"),
        (SplitKnockoffs(fraction=0), X8, "fraction 0: must lie between"),
        (SplitKnockoffs(nu=-1), X8, "nu -1: must be positive"),
        (SplitKnockoffs(statistic="t"), X8, "statistic 't'"),
        (SplitKnockoffs(D=np.eye(3)), X8, r"D \(3, 3\): must have"),
        (SplitKnockoffs(fraction=0.2), X8[:, [0, 1, 1]], "linearly independent"),
        (SplitKnockoffs(fraction=0.7), X8, r"d \+ m \+ 1 = 17 rows .* it has 12"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(model, X, message):
    with pytest.raises(ValueError, match=message) as refused:
        model.fit(X, X[:, 0] + np.arange(len(X)))
    assert "\n" not in str(refused.value)


def test_columns_in_other_units_have_the_same_statistics():
    """In all draws of six but one, at most: near a tie rounding may decide the path."""
    differences = []
    for seed in range(6):
        X, random = unit_columns(seed, 60, 6)
        y = X[:, :3] @ np.ones(3) + 0.05 * random.standard_normal(60)
        plain = Knockoffs(random_state=0).fit(X, y).W_
        X[:, 5] = 1.7e18 + 3e15 * X[:, 5]
        differences.append(np.abs(Knockoffs(random_state=0).fit(X, y).W_ - plain).max())
    assert sorted(differences)[-2] < 1e-3


def test_columns_of_float32_that_depend_on_others_are_refused():
    for seed in range(10):
        X, random = unit_columns(seed, 60, 6)
        X[:, 5] = X[:, 3] + X[:, 4]
        with pytest.raises(ValueError):
            Knockoffs(random_state=0).fit(np.float32(X), random.standard_normal(60))
