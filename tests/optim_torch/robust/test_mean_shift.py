"""The mean-shift model against closed forms, refits, the lasso and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import HuberRegressor, LinearRegression, QuantileRegressor, lars_path
from sklearn.utils.estimator_checks import check_estimator

from optim_torch.robust.huber_path import basis, group_huber_path, huber_path
from optim_torch.robust.linear import iss, soft
from optim_torch.robust.mean_shift import (
    PENALTIES,
    THRESHOLDS,
    MeanShiftRegressor,
    iterate,
    lbi_path,
)
from optim_torch.robust.residuals import studentised


def data(n=40, d=3, outliers=6, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((n, d))
    y = X @ random.standard_normal(d) + 0.5 * random.standard_normal(n)
    y[:outliers] += random.choice([-6, 6], outliers)
    return X, y


def at(path, level):
    """b at any λ: the path is linear between its knots."""
    return np.array([np.interp(-level, -path.lambdas, b) for b in path.coefficients.T])


def huber(r, level):
    return np.where(np.abs(r) <= level, r**2 / 2, level * (np.abs(r) - level / 2))


@given(r=st.floats(-50, 50), level=st.floats(0.1, 10))
def test_the_best_shift_makes_a_squared_loss_hubers(r, level):
    shift = soft(r, level)
    assert (r - shift) ** 2 / 2 + level * abs(shift) == pytest.approx(huber(r, level), abs=1e-9)


@given(st.sampled_from(["elasticnet", "scad", "mcp", "hard"]), st.floats(0.1, 5))
def test_thresholds_are_odd_shrink_and_keep_what_is_small_at_zero(name, level):
    r = np.linspace(-20, 20, 401)
    shift = THRESHOLDS[name](r, level)
    np.testing.assert_array_equal(shift, -THRESHOLDS[name](-r, level))
    assert (np.abs(shift) <= np.abs(r) + 1e-12).all() and (np.diff(shift) >= -1e-12).all()
    assert (shift[np.abs(r) < 0.999 * level] == 0).all()
    if name != "elasticnet":  # large shifts are not shrunk at all
        assert (shift == r)[np.abs(r) > 4 * level].all()


def test_the_path_is_the_lasso_of_the_shifts_with_b_eliminated():
    X, y = data()
    path = huber_path(X, y)
    rest = np.eye(len(y)) - X @ np.linalg.pinv(X)
    levels, _, shifts = lars_path(rest, rest @ y, method="lasso", max_iter=1000)
    for level, shift in zip(levels * len(y), shifts.T, strict=True):
        np.testing.assert_allclose(soft(y - X @ at(path, level), level), shift, atol=1e-10)


@given(st.integers(0, 10**6), st.integers(4, 25), st.integers(1, 3), st.booleans())
def test_every_knot_solves_hubers_equations(seed, n, d, repeated):
    X, y = data(n, d, n // 4, seed)
    if repeated:  # few different rows: many meet at once
        X, y = np.sign(X), np.sign(y)
    weights = np.random.default_rng(seed).integers(1, 4, n).astype(float)
    path = huber_path(X, y, weights)
    for level, b in zip(path.lambdas, path.coefficients, strict=True):
        pull = X.T @ (weights * np.clip(y - X @ b, -level, level))
        np.testing.assert_allclose(pull, 0, atol=1e-8)
    assert (np.diff(path.lambdas) <= 0).all()


def test_the_path_begins_at_least_squares_and_ends_at_least_absolute_deviations():
    X, y = data()
    path = huber_path(X, y)
    np.testing.assert_allclose(path.coefficients[0], np.linalg.lstsq(X, y)[0])
    residual = y - X @ path.coefficients[0]
    assert path.lambdas[0] == pytest.approx(np.abs(residual).max())
    assert path.order[0] == np.abs(residual).argmax()
    last = QuantileRegressor(quantile=0.5, alpha=0, fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(path.coefficients[-1], last.coef_, atol=1e-8)
    assert (path.entry == 0).sum() == X.shape[1]  # these it goes through


def test_columns_of_any_size_keep_the_others_and_the_intercept():
    X, y = data(outliers=0)
    large = 1.7e18 + 3e15 * X  # as timestamps in nanoseconds
    whole = np.column_stack([large[:, 0], X[:, 1:]])
    found = MeanShiftRegressor().fit(whole, y + 5).predict(whole)
    plain = MeanShiftRegressor().fit(X, y + 5).predict(X)
    np.testing.assert_allclose(found, plain, atol=1e-3)


def test_hubers_regression_of_scikit_learn_at_its_own_scale():
    X, y = data(100, 3, 15)
    other = HuberRegressor(epsilon=1.5, alpha=0, tol=1e-9, max_iter=1000).fit(X, y)
    ours = MeanShiftRegressor(threshold=1.5 * other.scale_).fit(X, y)
    np.testing.assert_allclose(ours.coef_, other.coef_, atol=1e-5)
    np.testing.assert_array_equal(ours.outlier_, other.outliers_)


def test_alternating_soft_thresholds_end_on_the_exact_path():
    X, y = data()
    weights = np.ones(len(y))
    Z, T = basis(X, weights)
    c, shift = iterate(Z, y, weights, soft, 0.7, Z.T @ y, tolerance=1e-14)
    exact = MeanShiftRegressor(threshold=0.7, fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(T @ c, exact.coef_, atol=1e-10)
    np.testing.assert_allclose(shift, exact.shift_, atol=1e-10)


def test_studentised_residuals_are_those_of_refits_and_the_t_of_the_shift():
    X, y = data(20, 3, 2)
    t, p = studentised(X, y)
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        b, rss, *_ = np.linalg.lstsq(X[rest], y[rest])
        free = rest.sum() - 3
        spread = X[i] @ np.linalg.solve(X[rest].T @ X[rest], X[i])
        assert t[i] == pytest.approx((y[i] - X[i] @ b) / np.sqrt(rss[0] / free * (1 + spread)))
        both = np.column_stack([X, np.eye(len(y))[i]])
        whole, rss, *_ = np.linalg.lstsq(both, y)
        error = np.sqrt(rss[0] / (len(y) - 4) * np.linalg.inv(both.T @ both)[-1, -1])
        assert t[i] == pytest.approx(whole[-1] / error)
        assert p[i] == pytest.approx(2 * stats.t.sf(abs(t[i]), len(y) - 4))


def test_equal_outliers_at_one_leverage_point_mask_each_other_but_not_from_a_robust_start():
    random = np.random.default_rng(0)
    X = np.r_[random.standard_normal((80, 1)), np.full((20, 1), 10.0)]
    y = X[:, 0] + 0.5 * random.standard_normal(100) + np.r_[np.zeros(80), np.full(20, 20.0)]
    one = np.arange(81)
    alone = MeanShiftRegressor("hard", random_state=0).fit(X[one], y[one])
    assert alone.studentised_[80] > 10 and alone.order_[0] == 80
    many = MeanShiftRegressor("hard", random_state=0).fit(X, y)
    assert np.abs(many.studentised_[80:]).max() < 2.5
    assert many.outlier_[80:].all() and set(many.order_[:20]) == set(range(80, 100))


@pytest.mark.parametrize("penalty", ["l1", "hard", "lbi"])
def test_weights_are_repeated_rows_and_units_are_free(penalty):
    X, y = data(60)
    weights = np.random.default_rng(1).integers(0, 3, 60)
    repeated = np.repeat(np.arange(60), weights)
    threshold = 1.5
    make = MeanShiftRegressor(penalty, threshold, random_state=0)
    one = make.fit(X, y, weights)
    coef, shift = one.coef_, one.shift_
    two = make.fit(X[repeated], y[repeated])
    np.testing.assert_allclose(coef, two.coef_, atol=1e-7)
    np.testing.assert_allclose(shift[repeated], two.shift_, atol=1e-7)
    make.set_params(threshold=3 * threshold)
    three = make.fit(X, 3 * y + X @ [1, 2, 3] - 4, weights)
    np.testing.assert_allclose(three.coef_, 3 * coef + [1, 2, 3], atol=1e-7)
    np.testing.assert_allclose(three.shift_, 3 * shift, atol=1e-7)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_clear_outliers_enter_first_and_the_criterion_finds_them(penalty):
    X, y = data(100, 3, 12, seed=3)
    model = MeanShiftRegressor(penalty, random_state=0).fit(X, y)
    assert set(model.order_[:12]) == set(range(12))
    assert model.outlier_[:12].all() and model.outlier_.sum() <= 18
    least = LinearRegression().fit(X[12:], y[12:])
    np.testing.assert_allclose(model.predict(X), least.predict(X), atol=0.6)


def test_hard_thresholds_never_raise_their_loss():
    X, y = data(seed=5)
    weights = np.ones(len(y))
    Z, _ = basis(X, weights)
    hard, losses = THRESHOLDS["hard"], []
    for rounds in range(8):
        c, shift = iterate(Z, y, weights, hard, 1.0, Z.T @ y, most=rounds)
        losses.append(((y - Z @ c - shift) ** 2).sum() / 2 + (shift != 0).sum() / 2)
    assert (np.diff(losses) <= 1e-12).all()


def test_the_lbi_path_of_the_shifts_is_close_to_inverse_scale_space():
    """Of the lasso with b eliminated; there, b is least squares without the rows that entered."""
    X, y = data()
    Z, T = basis(X, np.ones(len(y)))
    rest = np.eye(len(y)) - Z @ Z.T
    exact = 1 / iss(np.sqrt(len(y)) * rest, np.sqrt(len(y)) * (rest @ y)).entry
    lambdas = np.array([8.0, 4.0, 2.5])
    entry, knots = lbi_path(Z, y, np.ones(len(y)), lambdas, kappa=2000.0)
    seen = exact > 2.5
    assert 3 < seen.sum() < len(y) / 2
    np.testing.assert_allclose(entry[seen], exact[seen], rtol=0.02)
    kept = entry < 2.5
    np.testing.assert_allclose(T @ knots[-1], np.linalg.lstsq(X[kept], y[kept])[0], atol=1e-2)


def test_the_group_path_of_one_response_is_the_exact_path():
    X, y = data()
    exact = huber_path(X, y)
    grid = group_huber_path(X, y[:, None], lambdas=40, lowest=0.02, sweeps=2000, tolerance=1e-12)
    for level, b in zip(grid.lambdas, grid.coefficients, strict=True):
        np.testing.assert_allclose(b[:, 0], at(exact, level), atol=1e-6)
    first = grid.entry > 0.2
    np.testing.assert_allclose(grid.entry[first], exact.entry[first], rtol=0.03)


def test_the_group_path_follows_rotated_responses():
    X, _ = data()
    Y = np.column_stack([data(seed=seed)[1] for seed in range(3)])
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    one, two = group_huber_path(X, Y), group_huber_path(X, Y @ turn)
    np.testing.assert_allclose(one.entry, two.entry, atol=1e-9)
    np.testing.assert_allclose(one.coefficients @ turn, two.coefficients, atol=1e-9)


def test_the_paths_are_drawn():
    X, y = data()
    model = MeanShiftRegressor().fit(X, y)
    from matplotlib.figure import Figure

    ax = model.plot_path(X, y, rows=4, ax=Figure().subplots())
    lines = [line.get_ydata() for line in ax.lines[:4]]
    k = int(np.argmin(np.abs(model.path_.lambdas - model.threshold_)))
    for row, line in zip(model.order_, lines, strict=False):
        assert line[0] == pytest.approx(0, abs=1e-9)
        assert line[k] == pytest.approx(model.shift_[row])


def test_wrong_settings_are_refused():
    X, y = data()
    for model, word in ((MeanShiftRegressor("l0"), "l0"), (MeanShiftRegressor(threshold=-1), "-1")):
        with pytest.raises(ValueError, match=word):
            model.fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        MeanShiftRegressor().fit(X, np.where(y > 1, np.nan, y))


def test_it_is_an_estimator_of_scikit_learn():
    for penalty in ("l1", "lbi"):
        check_estimator(MeanShiftRegressor(penalty))
