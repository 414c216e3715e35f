"""LBI and split LBI as estimators: slow references, limits, projections, invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from optim_torch.robust import bregman, linear
from optim_torch.robust.bregman import (
    LinearizedBregman,
    LinearizedBregmanClassifier,
    MSplitLBI,
    MSplitLBIClassifier,
    SplitLBI,
    on_support,
)
from optim_torch.robust.bregman_path import (
    LOSSES,
    first_entry,
    glm_path,
    graph_differences,
    shrink,
    split_limit,
)

SEEDS = st.integers(0, 2**32 - 1)
CHEAP = {"kappa": 1.0, "until": 1.5, "cv": 2}


@parametrize_with_checks(
    [
        LinearizedBregman(**CHEAP),
        LinearizedBregmanClassifier(**CHEAP),
        MSplitLBI(**CHEAP),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def design(seed, n=30, d=6, c=1):
    random = np.random.default_rng(seed)
    X = random.standard_normal((n, d))
    X = (X - X.mean(0)) / X.std(0)
    return X, X @ random.standard_normal((d, c)) + random.standard_normal((n, c))


def labels_of(Y):
    """One-hot Y (n, c) with every class in it, from scores."""
    labels = Y.argmax(1)
    labels[: Y.shape[1]] = np.arange(Y.shape[1])
    return np.eye(Y.shape[1])[labels]


CHAIN = graph_differences(grid_to_graph(1, 6))


# The paths.


def test_squared_loss_without_a_split_is_lbi():
    X, Y = design(0)
    y = Y[:, 0] - Y.mean()
    path = linear.lbi(X, y, kappa=5, until=4)
    ours = glm_path(X, y[:, None], path.times, kappa=5)
    np.testing.assert_allclose(ours.coefficients[..., 0], path.coefficients, atol=1e-10)
    np.testing.assert_allclose(ours.entry[:, 0], path.entry, rtol=1e-12)


def slow_split(X, Y, D, loss, nu, kappa, alpha, steps, groups):
    n = len(X)
    W, b = np.zeros((X.shape[1], Y.shape[1])), LOSSES[loss].link(Y.mean(0))
    V = G = np.zeros((len(D), Y.shape[1]))
    for _ in range(steps):
        scores = X @ W + b
        if loss == "multinomial":
            mean = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        else:
            mean = 1 / (1 + np.exp(-scores)) if loss == "logistic" else scores
        slope = sum(np.outer(x, r) for x, r in zip(X, mean - Y, strict=True)) / n
        old = W
        W = W - kappa * alpha * (slope + D.T @ (D @ W - G) / nu)
        b = b - kappa * alpha * (mean - Y).mean(0)
        V = V + alpha * (D @ old - G) / nu
        G = np.zeros_like(V)
        for g in set(groups):
            size = np.linalg.norm(V[groups == g])
            G[groups == g] = kappa * max(0, 1 - 1 / size) * V[groups == g] if size else 0
    return W, G, b


@pytest.mark.parametrize("loss, c", [("squared", 2), ("logistic", 1), ("multinomial", 3)])
def test_split_lbi_is_the_slow_one(loss, c):
    X, Y = design(1, c=c)
    Y = {"squared": Y, "logistic": (Y[:, :1] > 0) * 1.0, "multinomial": labels_of(Y)}[loss]
    D, groups = CHAIN.toarray(), np.array([0, 0, 1, 2, 2])
    curvature = LOSSES[loss].curvature * max(1, np.linalg.norm(X, 2) ** 2 / len(X))
    alpha = 1 / (3 * (curvature + (1 + np.abs(D.T @ D).sum(1).max()) / 2))
    path = glm_path(X, Y, [0, 300 * alpha], loss=loss, D=CHAIN, nu=2, groups=groups, kappa=3)
    W, G, b = slow_split(X, Y, D, loss, 2, 3, alpha, 300, groups)
    assert G.any()
    np.testing.assert_allclose(path.dense[1], W, atol=1e-10)
    np.testing.assert_allclose(path.coefficients[1], G, atol=1e-10)
    np.testing.assert_allclose(path.intercepts[1], b, atol=1e-10)


@settings(max_examples=15)
@given(SEEDS, st.sampled_from(["logistic", "multinomial"]))
def test_gradients_are_finite_differences_of_the_deviance(seed, loss):
    X, Y = design(seed, c=3)
    Y = labels_of(Y) if loss == "multinomial" else (Y[:, :1] > 0) * 1.0
    random = np.random.default_rng(seed)
    B, way = random.standard_normal((2, 6, Y.shape[1]))
    slope = np.sum(way * (X.T @ (LOSSES[loss].mean(X @ B) - Y))) / len(X)
    if len(np.unique(Y.argmax(1) if Y.shape[1] > 1 else Y)) < 2:
        return
    ends = [bregman.LOSS_OF[loss](Y, X @ (B + h * way)).mean() for h in (1e-5, -1e-5)]
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("loss", ["squared", "logistic", "multinomial"])
def test_the_first_entry_is_one_over_the_largest_gradient(loss):
    X, Y = design(2, c=3)
    Y = {"squared": Y, "logistic": (Y[:, :1] > 0) * 1.0, "multinomial": labels_of(Y)}[loss]
    for groups in (None, np.arange(6)):
        time = first_entry(X, Y, loss, groups=groups)
        path = glm_path(X, Y, [2 * time], loss=loss, groups=groups, kappa=200)
        assert time <= path.entry.min() <= time * 1.01


@settings(max_examples=15)
@given(SEEDS)
def test_groups_turn_with_their_coordinates_and_single_ones_are_the_lasso(seed):
    X, Y = design(seed)
    groups = np.array([0, 0, 0, 1, 2, 2])
    turn = np.eye(6)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    times = [1, 3, 10]
    path = glm_path(X, Y, times, groups=groups)
    turned = glm_path(X @ turn, Y, times, groups=groups)
    np.testing.assert_allclose(turn @ turned.coefficients, path.coefficients, atol=1e-8)
    single = glm_path(X, Y, times, groups=np.arange(6))
    np.testing.assert_allclose(single.coefficients, glm_path(X, Y, times).coefficients, atol=1e-10)


@given(SEEDS)
def test_the_groups_shrink_is_the_closest_point_with_a_price(seed):
    random = np.random.default_rng(seed)
    v, groups = 2 * random.standard_normal((5, 2)), np.array([0, 1, 1, 2, 2])

    def cost(z):
        return ((z - v) ** 2).sum() / 2 + sum(np.linalg.norm(z[groups == g]) for g in range(3))

    best = cost(shrink(v, groups))
    for _ in range(5):
        assert best <= cost(shrink(v, groups) + 0.01 * random.standard_normal(v.shape))


# The limit of infinite damping.


@given(SEEDS, st.floats(0.2, 10))
def test_the_limit_without_structure_is_that_of_whitened_data(seed, nu):
    X, Y = design(seed)
    y = Y[:, 0] - Y.mean()
    S, s, _ = split_limit(X, y, np.eye(6), nu)
    white_X, white_y = linear.whitened(X, y, nu)
    np.testing.assert_allclose(S.T @ S / 6, white_X.T @ white_X / 30, atol=1e-9)
    np.testing.assert_allclose(S.T @ s / 6, white_X.T @ white_y / 30, atol=1e-9)


@pytest.mark.parametrize("D", [None, CHAIN, sparse.vstack([CHAIN, sparse.eye_array(6)])])
def test_split_lbi_tends_to_its_exact_limit(D):
    X, Y = design(4)
    Y = Y / Y.std()
    unit = first_entry(X, Y, D=D, nu=1.0)
    times = unit * np.array([0.5, 1.02, 2.5, 6.0])
    exact = glm_path(X, Y, times, D=D, nu=1.0, kappa=np.inf)
    inside = np.isfinite(exact.entry)
    assert exact.entry.min() == pytest.approx(unit)
    errors = []
    for kappa in (10, 100):
        path = glm_path(X, Y, times, D=D, nu=1.0, kappa=kappa)
        errors.append(np.abs(path.entry[inside] - exact.entry[inside]).max())
        error = np.abs(path.dense[-1] - exact.dense[-1]).max()
    assert errors[1] < 0.2 * errors[0]
    assert error < 0.05


# The estimators.


@given(SEEDS, st.booleans())
def test_the_strong_part_is_the_nearest_point_of_the_support(seed, structured):
    random = np.random.default_rng(seed)
    D = CHAIN if structured else None
    W, gamma = random.standard_normal((6, 2)), random.standard_normal((5 if structured else 6, 2))
    gamma[random.random(gamma.shape) < 0.5] = 0
    strong = on_support(W, gamma, D)
    out = CHAIN.toarray() if structured else np.eye(6)
    assert np.abs((out @ strong)[gamma == 0]).max(initial=0) < 1e-10
    np.testing.assert_allclose(on_support(strong, gamma, D), strong, atol=1e-10)
    np.testing.assert_allclose((strong * (W - strong)).sum(0), 0, atol=1e-10)


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True)


def test_strong_and_weak_together_are_all_of_w(diabetes):
    X, y = diabetes
    strong = SplitLBI(cv=None, until=6).fit(X, y)
    whole = MSplitLBI(cv=None, until=6).fit(X, y)
    np.testing.assert_array_equal(strong.coef_, whole.coef_strong_)
    np.testing.assert_allclose(whole.coef_, whole.coef_strong_ + whole.coef_weak_, rtol=1e-10)
    assert 0 < whole.support_.sum() < 10
    np.testing.assert_array_equal(strong.coef_ != 0, strong.support_)
    np.testing.assert_allclose(whole.predict(X).mean(), y.mean())


@settings(max_examples=5)
@given(SEEDS, st.sampled_from([LinearizedBregman, MSplitLBI]))
def test_units_order_and_signs_of_the_data_change_no_prediction(seed, kind):
    X, Y = design(seed)
    random = np.random.default_rng(seed)
    order, factors = random.permutation(6), random.choice([-1, 1], 6) * random.uniform(0.1, 9, 6)
    one = kind(cv=None, until=4).fit(X, Y[:, 0])
    other_X = (X * factors + 3)[:, order]
    other = kind(cv=None, until=4).fit(other_X, 7 * Y[:, 0] - 2)
    np.testing.assert_allclose(other.predict(other_X), 7 * one.predict(X) - 2, atol=1e-8)
    np.testing.assert_allclose(other.entry_, one.entry_[order])


def test_infinite_damping_on_diabetes_is_iss(diabetes):
    X, y = diabetes
    exact = LinearizedBregman(kappa=np.inf, until=200, cv=None).fit(X, y)
    path = linear.iss((X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std())
    inside = path.entry <= exact.path_.times[-1]
    np.testing.assert_allclose(exact.entry_[inside], path.entry[inside])
    near = LinearizedBregman(cv=3).fit(X, y)
    assert near.score(X, y) > 0.45
    assert near.support_.sum() < 10


def test_two_classes_reach_logistic_regression_at_the_end():
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[:, [0, 4, 21]], np.where(y, "benign", "malignant")
    ours = LinearizedBregmanClassifier(until=200, cv=None).fit(X, y)
    Z = (X - X.mean(0)) / X.std(0)
    free = LogisticRegression(C=np.inf, tol=1e-10).fit(Z, y)
    np.testing.assert_allclose(ours.predict_proba(X), free.predict_proba(Z), atol=0.02)
    assert (ours.predict(X) == free.predict(Z)).mean() > 0.99


def test_constant_pixels_of_digits_never_enter():
    X, y = load_digits(return_X_y=True)
    model = MSplitLBIClassifier(groups="columns", until=3, kappa=3, cv=None).fit(X[:400], y[:400])
    constant = X[:400].std(0) == 0
    assert np.isinf(model.entry_[constant]).all()
    assert not model.coef_[:, constant].any()
    assert model.score(X[400:], y[400:]) > 0.8


def test_fused_coefficients_find_the_steps_of_the_truth():
    random = np.random.default_rng(0)
    X = random.standard_normal((200, 20))
    truth = np.repeat([0.0, 2.0, -1.0, 0.0], 5)
    D = graph_differences(grid_to_graph(1, 20))
    y = X @ truth + 0.3 * random.standard_normal(200)
    model = SplitLBI(D=D, nu=5.0, until=15, standardize=False, kappa=10, cv=3).fit(X, y)
    steps = D @ truth != 0
    assert model.entry_[steps].max() < model.entry_[~steps].min()
    np.testing.assert_allclose(model.coef_, truth, atol=0.15)
    for same in (sparse.csr_matrix(D), D.toarray().tolist()):
        other = SplitLBI(D=same, nu=5.0, until=15, standardize=False, kappa=10, cv=3).fit(X, y)
        np.testing.assert_array_equal(other.coef_, model.coef_)


def test_the_picture_shows_the_path_and_where_it_stops(diabetes):
    model = LinearizedBregman(cv=None, until=3).fit(*diabetes)
    lines = model.plot_path().get_lines()
    assert len(lines) == 11
    assert lines[-1].get_xdata()[0] == model.time_


@pytest.mark.parametrize(
    "model, message",
    [
        (LinearizedBregman(kappa=-1), "kappa -1: must be positive"),
        (SplitLBI(nu=0), "nu 0: must be positive"),
        (SplitLBI(until=1), "until 1: must be above 1"),
        (LinearizedBregman(groups="rows"), "groups 'rows'"),
        (LinearizedBregman(groups=[0, 1]), "groups: 2 numbers, must be 10"),
        (LinearizedBregman(groups="columns", kappa=np.inf), "kappa inf"),
        (SplitLBI(D=np.eye(3)), r"D \(3, 3\): must have as many columns as X, 10"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(model, message, diabetes):
    with pytest.raises(ValueError, match=message) as refused:
        model.fit(*diabetes)
    assert "\n" not in str(refused.value)
