"""Paths of sparse linear regression: closed forms, optimality, limits, and what the lasso does."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_diabetes
from sklearn.linear_model import lars_path

from optim_torch.robust.linear import iss, lbi, soft, split_lbi, whitened

SEEDS = st.integers(0, 2**32 - 1)
KAPPAS = st.floats(0.1, 10, allow_subnormal=False)
NUS = st.floats(0.2, 10, allow_subnormal=False)


def regression(seed, n=12, p=5):
    """X (n, p) and y (n,), Gaussian, with max |X'y/n| = 1: the first entry is at time 1."""
    random = np.random.default_rng(seed)
    X, y = random.standard_normal((n, p)), random.standard_normal(n)
    return X, y / np.abs(X.T @ y / n).max()


def orthogonal(seed, n=12, p=5):
    """X with X'X/n = I, y, and the correlations X'y/n."""
    X, y = regression(seed, n, p)
    X = np.linalg.qr(X)[0] * np.sqrt(n)
    return X, y, X.T @ y / n


def with_gram(gram):
    """A square X with X'X/n = gram."""
    return np.linalg.cholesky(gram).T * np.sqrt(len(gram))


def sparse_truth(seed, n=100, p=200, size=5, noise=0.5):
    """X, y and the support of the truth: `size` coefficients of ±1."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((n, p))
    truth = np.zeros(p)
    truth[random.choice(p, size, replace=False)] = random.choice([-1, 1], size)
    return X, X @ truth + noise * random.standard_normal(n), truth != 0


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    X, y = (X - X.mean(0)) / X.std(0), y - y.mean()
    return X, y / np.abs(X.T @ y / len(y)).max()


NAMES = load_diabetes().feature_names


def loss(X, y, b):
    """‖y − X b‖²/2n for every row of b."""
    return ((y - b @ X.T) ** 2).mean(1) / 2


def gradient(X, y, b):
    """Of the loss, for every row of b."""
    return (b @ X.T - y) @ X / len(y)


# The iterations, as the papers write them.


def slow_lbi(X, y, kappa, alpha, steps, threshold):
    n, p = X.shape
    b, z = [0.0] * p, [0.0] * p
    for _ in range(steps):
        residual = [y[i] - sum(X[i, j] * b[j] for j in range(p)) for i in range(n)]
        z = [z[j] + alpha * sum(X[i, j] * residual[i] for i in range(n)) / n for j in range(p)]
        b = [kappa * np.sign(v) * max(abs(v) - threshold, 0) for v in z]
    return b, z


def slow_split_lbi(X, y, nu, kappa, alpha, steps, threshold):
    w, v, g = np.zeros((3, X.shape[1]))
    for _ in range(steps):
        old = w
        w = w - kappa * alpha * (gradient(X, y, w[None])[0] + (w - g) / nu)
        v = v - alpha / nu * (g - old)
        g = np.array([kappa * np.sign(x) * max(abs(x) - threshold, 0) for x in v])
    return g, v, w


@settings(max_examples=20)
@given(SEEDS, KAPPAS, st.floats(0.1, 3, allow_subnormal=False))
def test_lbi_is_the_slow_one(seed, kappa, threshold):
    X, y = regression(seed, n=4, p=3)
    alpha = 1.5 / (kappa * np.linalg.norm(X.T @ X / 4, 2))
    path = lbi(X, y, kappa=kappa, until=19.5 * alpha, alpha=alpha, threshold=threshold)
    b, z = slow_lbi(X, y, kappa, alpha, 20, threshold)
    np.testing.assert_allclose(path.times, alpha * np.arange(21), rtol=1e-12)
    np.testing.assert_allclose(path.coefficients[-1], b, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(path.duals[-1], z, rtol=1e-9, atol=1e-9)


@settings(max_examples=20)
@given(SEEDS, KAPPAS, NUS, st.floats(0.1, 3, allow_subnormal=False))
def test_split_lbi_is_the_slow_one(seed, kappa, nu, threshold):
    X, y = regression(seed, n=4, p=3)
    path, w = split_lbi(X, y, nu=nu, kappa=kappa, until=3, threshold=threshold)
    alpha, steps = path.times[1], len(path.times) - 1
    assume(steps < 2000)
    expected = slow_split_lbi(X, y, nu, kappa, alpha, steps, threshold)
    for found, wanted in zip((path.coefficients, path.duals, w), expected, strict=True):
        np.testing.assert_allclose(found[-1], wanted, rtol=1e-8, atol=1e-8)


# Optimality and invariants at every step.


@settings(max_examples=20)
@given(SEEDS, KAPPAS, NUS, st.floats(0.1, 3, allow_subnormal=False), st.booleans())
def test_coefficients_are_the_prox_of_the_duals(seed, kappa, nu, threshold, split):
    X, y = regression(seed)
    options = {"kappa": kappa, "until": 5 * threshold, "threshold": threshold, "every": 7}
    path = split_lbi(X, y, nu=nu, **options)[0] if split else lbi(X, y, **options)
    b, z = path.coefficients, path.duals
    assert (np.abs(z[b == 0]) <= threshold).all()
    subgradient = b / kappa + threshold * np.sign(b)
    np.testing.assert_allclose(z[b != 0], subgradient[b != 0], rtol=1e-9)


@settings(max_examples=20)
@given(SEEDS, KAPPAS, st.floats(0.05, 0.99, allow_subnormal=False))
def test_no_step_of_lbi_raises_the_loss(seed, kappa, share):
    X, y = regression(seed)
    alpha = share * 2 / (kappa * np.linalg.norm(X.T @ X / len(y), 2))
    path = lbi(X, y, kappa=kappa, until=alpha * 100, alpha=alpha)
    losses = loss(X, y, path.coefficients)
    assert (np.diff(losses) <= 1e-12 * losses[0]).all()


@settings(max_examples=20)
@given(SEEDS, KAPPAS, NUS, st.floats(0.05, 0.99, allow_subnormal=False))
def test_no_step_of_split_lbi_raises_the_joint_loss(seed, kappa, nu, share):
    X, y = regression(seed)
    eye = np.eye(X.shape[1]) / nu
    joint = np.block([[X.T @ X / len(y) + eye, -eye], [-eye, eye]])
    alpha = share * 2 / (kappa * np.linalg.norm(joint, 2))
    path, w = split_lbi(X, y, nu=nu, kappa=kappa, until=alpha * 100, alpha=alpha)
    losses = loss(X, y, w) + ((w - path.coefficients) ** 2).sum(1) / (2 * nu)
    assert (np.diff(losses) <= 1e-12 * losses[0]).all()


@settings(max_examples=20)
@given(SEEDS, KAPPAS, NUS)
def test_what_w_gains_beyond_the_gradient_v_pays(seed, kappa, nu):
    """W/κ + V moves by −α times the gradient of the loss alone: the coupling cancels."""
    X, y = regression(seed)
    path, w = split_lbi(X, y, nu=nu, kappa=kappa, until=3)
    moved = np.diff(w / kappa + path.duals, axis=0)
    expected = -path.times[1] * gradient(X, y, w[:-1])
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-12 * (1 + np.abs(w).max() / kappa))


@settings(max_examples=20)
@given(SEEDS, KAPPAS, NUS, st.integers(2, 40))
def test_recording_less_changes_nothing_else(seed, kappa, nu, every):
    X, y = regression(seed)
    options = {"nu": nu, "kappa": kappa, "until": 3}
    (whole, w), (part, w_part) = (split_lbi(X, y, **options, every=k) for k in (1, every))
    last = len(whole.times) - 1
    kept = [*range(0, last, every), last]
    for all_rows, rows in [
        (whole.times, part.times),
        (whole.coefficients, part.coefficients),
        (whole.duals, part.duals),
        (w, w_part),
    ]:
        np.testing.assert_array_equal(all_rows[kept], rows)
    np.testing.assert_array_equal(whole.entry, part.entry)
    assert 3 <= part.times[-1] < 3 + whole.times[1]
    on = whole.coefficients != 0
    first = np.where(on.any(0), whole.times[on.argmax(0)], np.inf)
    np.testing.assert_array_equal(whole.entry, first)


# P4: one degree of freedom of DessiLBI is redundant.


@settings(max_examples=20)
@given(SEEDS, KAPPAS, NUS, st.integers(-6, 6).filter(bool))
def test_p4_scaling_the_dual_changes_no_weight(seed, kappa, nu, power):
    X, y = regression(seed)
    path, w = split_lbi(X, y, nu=nu, kappa=kappa, until=3)
    alpha, s = path.times[1], 2.0**power
    scaled = {"kappa": kappa / s, "threshold": s, "until": 3 * s, "alpha": s * alpha}
    other, other_w = split_lbi(X, y, nu=nu, **scaled)
    np.testing.assert_array_equal(other.duals, s * path.duals)
    np.testing.assert_array_equal(other.coefficients, path.coefficients)
    np.testing.assert_array_equal(other_w, w)
    np.testing.assert_array_equal(other.times, s * path.times)
    np.testing.assert_array_equal(other.entry, s * path.entry)


@pytest.mark.parametrize("left_alone", ["kappa", "threshold", "alpha"])
def test_p4_needs_all_three(left_alone):
    X, y = regression(0)
    path, w = split_lbi(X, y, nu=1, kappa=4, until=8)
    assert path.coefficients[-1].any()
    s, alpha = 0.5, path.times[1]
    usual = {"kappa": 4, "threshold": 1.0, "alpha": alpha}
    scaled = {"kappa": 4 / s, "threshold": s, "alpha": s * alpha}
    scaled[left_alone] = usual[left_alone]
    scaled["alpha"] *= 0.9 if left_alone == "alpha" else 1  # at 1 it would not be stable
    _, other = split_lbi(X, y, nu=1, **scaled, until=scaled["alpha"] * (len(w) - 1.5))
    assert other.shape == w.shape
    assert np.abs(other - w).max() > 1e-3


# Closed forms for orthogonal designs.


@given(SEEDS)
def test_orthogonal_iss_enters_at_one_over_correlation(seed):
    X, y, correlations = orthogonal(seed)
    path = iss(X, y)
    np.testing.assert_allclose(path.entry, 1 / np.abs(correlations), rtol=1e-9)
    for time, b in zip(path.times, path.coefficients, strict=True):
        kept = path.entry <= time
        np.testing.assert_allclose(b, np.where(kept, correlations, 0), atol=1e-9)


@given(SEEDS, KAPPAS, st.floats(0.1, 3, allow_subnormal=False))
def test_orthogonal_lbi_enters_within_a_step_of_iss(seed, kappa, threshold):
    X, y, correlations = orthogonal(seed)
    times = threshold / np.abs(correlations)
    path = lbi(X, y, kappa=kappa, threshold=threshold, until=np.sort(times)[2], every=100)
    alpha = 1 / kappa
    late = path.entry - times
    entered = np.isfinite(path.entry)
    assert entered.sum() >= 2
    assert ((late > -1e-9 * times) & (late <= alpha * (1 + 1e-9)))[entered].all()


def test_default_step_is_half_of_the_largest_stable_one():
    X, y, _ = orthogonal(0)
    assert lbi(X, y, kappa=4, until=1).times[1] == pytest.approx(1 / 4)
    largest = np.linalg.eigvalsh([[1 + 1 / 3, -1 / 3], [-1 / 3, 1 / 3]])[1]
    path, _ = split_lbi(X, y, nu=3, kappa=4, until=1)
    assert path.times[1] == pytest.approx(1 / (4 * largest))


@given(SEEDS, NUS)
def test_orthogonal_split_waits_one_plus_nu_times_as_long(seed, nu):
    X, y, correlations = orthogonal(seed)
    path = iss(*whitened(X, y, nu))
    np.testing.assert_allclose(path.entry, (1 + nu) / np.abs(correlations), rtol=1e-9)
    np.testing.assert_allclose(path.coefficients[-1], correlations, rtol=1e-9)


@given(SEEDS, NUS, st.sampled_from([(12, 5), (4, 9)]))
def test_whitened_loss_is_that_of_the_best_w(seed, nu, shape):
    X, y = regression(seed, *shape)
    gamma = np.random.default_rng(seed).standard_normal((1, shape[1]))
    gram = X.T @ X / len(y)
    best = np.linalg.solve(gram + np.eye(shape[1]) / nu, X.T @ y / len(y) + gamma[0] / nu)[None]
    expected = loss(X, y, best) + ((best - gamma) ** 2).sum() / (2 * nu)
    np.testing.assert_allclose(loss(*whitened(X, y, nu), gamma), expected, rtol=1e-9)


# ISS: its definition, its end, its invariances. Small integers bring ties and equal columns.

DESIGNS = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        arrays(float, shape, elements=st.integers(-3, 3)),
        arrays(float, shape[0], elements=st.integers(-9, 9)),
    )
)


@given(DESIGNS)
def test_iss_obeys_its_differential_inclusion(design):
    X, y = design
    assume(X.any())
    path = iss(X, y)
    b, rho = path.coefficients, path.duals
    assert (np.abs(rho) <= 1).all()
    np.testing.assert_array_equal(rho[b != 0], np.sign(b[b != 0]))
    slopes = -gradient(X, y, b)
    waits = np.diff(path.times)
    np.testing.assert_allclose(np.diff(rho, axis=0), waits[:, None] * slopes[:-1], atol=1e-8)
    # Least squares on the face: nothing with |ρ| = 1 could fit more without opposing its sign.
    assert np.abs(slopes[b != 0]).max(initial=0) <= 1e-9
    assert (rho * slopes)[np.abs(rho) == 1].max(initial=0) <= 1e-9
    assert (np.diff(loss(X, y, b)) < 1e-12).all()
    best = np.linalg.lstsq(X, y)[0]
    np.testing.assert_allclose(X @ b[-1], X @ best, atol=1e-8)


@given(SEEDS, st.sampled_from([(12, 5), (30, 10), (6, 6)]))
def test_iss_ends_in_least_squares(seed, shape):
    X, y = regression(seed, *shape)
    best = np.linalg.lstsq(X, y)[0]
    np.testing.assert_allclose(iss(X, y).coefficients[-1], best, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("difference", [1e-4, 1e-8])
@pytest.mark.parametrize("seed", range(3))
def test_iss_ends_although_columns_are_nearly_equal(seed, difference):
    X, y = regression(seed, 30, 20)
    X[:, 1:10] = X[:, :1] + difference * X[:, 1:10]
    fit = X @ iss(X, y).coefficients[-1]  # a jump of no length would go on for ever
    if difference == 1e-4:
        np.testing.assert_allclose(fit, X @ np.linalg.lstsq(X, y)[0], atol=1e-6)


@given(SEEDS, st.floats(1, 50, allow_subnormal=False))
def test_iss_stops_in_time(seed, until):
    X, y = regression(seed)
    whole, part = iss(X, y), iss(X, y, until)
    kept = whole.times <= until
    np.testing.assert_array_equal(part.times, whole.times[kept])
    np.testing.assert_array_equal(part.coefficients, whole.coefficients[kept])
    np.testing.assert_array_equal(part.entry, np.where(whole.entry <= until, whole.entry, np.inf))


@given(SEEDS, st.integers(-60, 60))
def test_iss_follows_the_units_order_and_signs_of_the_data(seed, power):
    X, y = regression(seed)
    random = np.random.default_rng(seed)
    order, signs = random.permutation(5), random.choice([-1.0, 1.0], 5)
    path, other = iss(X, y), iss((X * signs)[:, order], y * 2.0**power)
    np.testing.assert_allclose(other.times * 2.0**power, path.times, rtol=1e-9)
    np.testing.assert_allclose(other.entry * 2.0**power, path.entry[order], rtol=1e-9)
    expected = (path.coefficients * signs)[:, order]
    np.testing.assert_allclose(other.coefficients / 2.0**power, expected, rtol=1e-6, atol=1e-9)


# Limits.


def held(path, times):
    """The coefficients of ISS at `times`."""
    return path.coefficients[np.searchsorted(path.times, times, side="right") - 1]


def test_lbi_tends_to_iss(diabetes):
    X, y = diabetes
    exact = iss(X, y, until=8)
    middle = (exact.times[1:] + np.append(exact.times[2:], 9)) / 2
    errors = []
    for kappa in (4, 64):
        path = lbi(X, y, kappa=kappa, until=9)
        b = path.coefficients[np.searchsorted(path.times, middle)]
        inside = np.isfinite(exact.entry)
        late = np.abs(path.entry[inside] - exact.entry[inside])
        errors.append((late.max(), np.abs(b - held(exact, middle)).max()))
    (late, error), (less_late, less_error) = errors
    assert less_late < 0.1 * late
    assert less_error < 0.1 * error


def test_split_lbi_tends_to_iss_of_whitened_data(diabetes):
    X, y = diabetes
    exact = iss(*whitened(X, y, 1), until=15)
    inside = np.isfinite(exact.entry)
    assert inside.sum() >= 4
    late = []
    for kappa in (4, 64):
        path, _ = split_lbi(X, y, nu=1, kappa=kappa, until=17)
        late.append(np.abs(path.entry[inside] - exact.entry[inside]).max())
    assert late[1] < 0.1 * late[0]
    assert late[1] < 0.1


def test_split_lbi_with_a_tight_coupling_is_lbi_with_half_the_kappa():
    X, y = regression(3)
    errors = []
    for nu in (0.1, 0.01):
        split = split_lbi(X, y, nu=nu, kappa=4, until=4)[0]
        plain = lbi(X, y, kappa=2, until=4, alpha=split.times[1])
        assert np.abs(plain.coefficients[-1]).max() > 0.3
        errors.append(np.abs(split.coefficients[-1] - plain.coefficients[-1]).max())
    assert errors[1] < 0.2 * errors[0]
    assert errors[1] < 0.01


# The lasso and LARS.


@settings(max_examples=20)
@given(SEEDS)
def test_the_lasso_is_the_mean_of_iss_until_one_leaves(seed):
    X, y = regression(seed, n=30, p=8)
    path = iss(X, y)
    left = ((path.coefficients[:-1] != 0) & (path.coefficients[1:] == 0)).any(1)
    end = path.times[1:][left][0] if left.any() else 2 * path.times[-1]
    penalties, _, lasso = lars_path(X, y, method="lasso")
    for time in np.geomspace(1, end, 7)[1:]:
        spent = np.diff(np.minimum(np.append(path.times, np.inf), time))
        mean = spent @ path.coefficients / time
        expected = [np.interp(-1 / time, -penalties, b) for b in lasso]
        np.testing.assert_allclose(mean, expected, atol=1e-8)


def test_diabetes_enters_iss_as_it_enters_lars_until_hdl_leaves(diabetes):
    """Ten coefficients: nine enter at the same times, and age after s3 (hdl) has gone."""
    X, y = diabetes
    path = iss(X, y)
    penalties, order, _ = lars_path(X, y, method="lar")
    lars_order = [NAMES[j] for j in order]
    assert [NAMES[j] for j in np.argsort(path.entry)] == lars_order
    assert lars_order == ["bmi", "s5", "bp", "s3", "sex", "s6", "s1", "s4", "s2", "age"]
    np.testing.assert_allclose(path.entry[order[:9]], 1 / penalties[:9], rtol=1e-9)
    left = np.argwhere((path.coefficients[:-1] != 0) & (path.coefficients[1:] == 0))
    assert [NAMES[j] for _, j in left] == ["s3"]
    gone = path.times[left[0, 0] + 1]
    age = order[9]
    assert gone == path.entry[order[8]] < 1 / penalties[9] < path.entry[age] - 1


def test_diabetes_enters_lbi_as_iss_once_kappa_is_large(diabetes):
    X, y = diabetes
    first = np.abs(X.T @ y).argmax()
    orders = {}
    for kappa in (3, 30, 250):
        path = lbi(X, y, kappa=kappa, until=15, every=10**9)
        orders[kappa] = [NAMES[j] for j in np.argsort(path.entry) if np.isfinite(path.entry[j])]
        assert orders[kappa][0] == NAMES[first] == "bmi"
    # When s1 enters, s2 (0.9 correlated with it) is at −0.9987; a slow s1 is late to turn it back.
    assert orders[250] == ["bmi", "s5", "bp", "s3", "sex", "s6", "s1"]
    assert {*orders[3]} == {*orders[30]} == {*orders[250], "s2"}


# Finding the truth.


@pytest.mark.parametrize("seed", range(3))
def test_every_path_passes_the_true_support(seed):
    X, y, truth = sparse_truth(seed)
    y = y / np.abs(X.T @ y / len(y)).max()
    for path in (
        iss(X, y),
        lbi(X, y, kappa=10, until=6),
        split_lbi(X, y, nu=1, kappa=10, until=24)[0],
    ):
        assert ((path.coefficients != 0) == truth).all(1).any()
        assert path.entry[truth].max() < path.entry[~truth].min()


def test_split_lbi_is_not_misled_where_lasso_and_iss_are():
    """A column that correlates 0.6 with both true ones: together they explain it better (1.2)."""
    gram = np.array([[1, 0, 0.6], [0, 1, 0.6], [0.6, 0.6, 1]])
    X = with_gram(gram)
    y = X @ [1, 1, 0]
    assert lars_path(X, y)[1][0] == iss(X, y).entry.argmin() == 2
    assert lbi(X, y, kappa=20, until=3).entry.argmin() == 2
    entry = split_lbi(X, y, nu=10, kappa=20, until=20)[0].entry
    assert np.isfinite(entry[:2]).all()
    assert entry[:2].max() < entry[2]


# Small things.


@given(
    arrays(float, 4, elements=st.floats(-9, 9, allow_subnormal=False)),
    st.floats(0.01, 5, allow_subnormal=False),
)
def test_soft_is_the_closest_point_with_a_price(z, threshold):
    def cost(b):
        return (b - z) ** 2 / 2 + threshold * np.abs(b)

    b = soft(z, threshold)
    for other in (b + 1e-3, b - 1e-3, 0 * b):
        assert (cost(b) <= cost(other) + 1e-12).all()


X2, Y2 = np.eye(2), np.ones(2)
GOOD = {"kappa": 1, "until": 1}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: lbi(X2, np.ones(3), **GOOD), r"X \(2, 2\) and y \(3,\)"),
        (lambda: lbi(Y2, Y2, **GOOD), r"X \(2,\) and y \(2,\)"),
        (lambda: iss(X2, X2), r"X \(2, 2\) and y \(2, 2\)"),
        (lambda: iss(np.ones((0, 3)), np.ones(0)), "not empty"),
        (lambda: iss(np.ones((3, 0)), np.ones(3)), "not empty"),
        (lambda: iss(X2, [1, np.nan]), "finite"),
        (lambda: lbi(X2 + np.inf, Y2, **GOOD), "finite"),
        (lambda: lbi(X2 * 0, Y2, **GOOD), "not zero"),
        (lambda: lbi(X2, Y2, kappa=-1, until=1), "kappa -1: must be positive"),
        (lambda: lbi(X2, Y2, kappa=1, until=np.inf), "until inf: must be .* finite"),
        (lambda: lbi(X2, Y2, **GOOD, threshold=0), "threshold 0: must be positive"),
        (lambda: lbi(X2, Y2, **GOOD, every=0), "every 0: must be positive"),
        (lambda: lbi(X2, Y2, **GOOD, alpha=0), "alpha 0: must be positive"),
        (lambda: lbi(X2, Y2, **GOOD, alpha=np.nan), "alpha nan: must be positive"),
        (lambda: lbi(X2, Y2, **GOOD, alpha=4.01), "alpha 4.01: .* below 4$"),
        (lambda: split_lbi(X2, Y2, nu=-2, **GOOD), "nu -2: must be positive"),
        (lambda: split_lbi(X2, Y2, nu=np.nan, **GOOD), "nu nan: must be positive"),
        (lambda: split_lbi(X2, Y2, nu=1, **GOOD, alpha=2), r"alpha 2: .* below 0.876894"),
        (lambda: whitened(X2, Y2, 0), "nu 0: must be positive"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_the_data_stay_as_they_are():
    X, y = regression(0)
    copies = X.copy(), y.copy()
    iss(X, y)
    lbi(X, y, kappa=2, until=3)
    split_lbi(X, y, nu=1, kappa=2, until=3)
    whitened(X, y, 2)
    for found, expected in zip((X, y), copies, strict=True):
        np.testing.assert_array_equal(found, expected)
