"""ISTA, ADMM and their unrolled kin: descent, fixed points, closed forms, invariances."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from optim_torch.robust.admm import UnrolledADMM
from optim_torch.robust.ista import (
    analytic_weight,
    fista,
    ista,
    nmse_db,
    sparse_codes,
    sparse_problem,
)
from optim_torch.robust.lista import KINDS, UnrolledISTA, train

SEEDS = st.integers(0, 2**32 - 1)


def problem(seed, batch=5, m=10, n=20, **options):
    random = np.random.default_rng(seed)
    A = sparse_problem(random, m, n)
    return A, *sparse_codes(random, A, batch, **options)


def tensor(array):
    return torch.tensor(array, dtype=torch.float32)


def objective(A, b, x, penalty):
    return ((b - x @ A.T) ** 2).sum(-1) / 2 + penalty * np.abs(x).sum(-1)


@settings(max_examples=20)
@given(SEEDS, st.floats(0.001, 1))
def test_no_step_of_ista_raises_the_objective(seed, penalty):
    A, _, b = problem(seed)
    values = objective(A, b, ista(A, b, penalty, 50), penalty)
    assert (np.diff(values, axis=0) <= 1e-12 * values[0]).all()


def test_both_end_in_scikit_learns_lasso():
    A, _, b = problem(0, density=0.2)
    for method, steps in ((ista, 3000), (fista, 600)):
        x = method(A, b, 0.1, steps)[-1]
        lasso = Lasso(alpha=0.1 / len(A), fit_intercept=False, tol=1e-12, max_iter=100_000)
        best = np.array([lasso.fit(A, row).coef_ for row in b])
        values = [objective(A, b, codes, 0.1) for codes in (x, best)]
        np.testing.assert_allclose(*values, rtol=1e-5)


@settings(max_examples=20)
@given(SEEDS)
def test_the_bounds_of_ista_and_fista(seed):
    """F(x_k) − F* ≤ L‖x*‖²/2k, and 2L‖x*‖²/(k + 1)² for FISTA."""
    A, _, b = problem(seed)
    best = fista(A, b, 0.1, 2000)[-1]
    reach = np.linalg.norm(A, 2) ** 2 * (best**2).sum(1) / 2
    for k in (1, 5, 25):
        gaps = [
            objective(A, b, method(A, b, 0.1, k)[-1], 0.1) - objective(A, b, best, 0.1)
            for method in (ista, fista)
        ]
        assert (gaps[0] <= reach / k + 1e-9).all()
        assert (gaps[1] <= 4 * reach / (k + 1) ** 2 + 1e-9).all()


@settings(max_examples=20)
@given(SEEDS)
def test_the_analytic_weight_is_the_minimiser_under_its_constraint(seed):
    random = np.random.default_rng(seed)
    A = sparse_problem(random, 10, 20)
    W = analytic_weight(A)
    np.testing.assert_allclose((W * A).sum(0), 1, atol=1e-10)
    way = random.standard_normal(W.shape)
    way -= A * (way * A).sum(0)  # keeps w_j'a_j
    slope = (A @ A.T @ W * way).sum()
    assert abs(slope) < 1e-9 * np.linalg.norm(A @ A.T @ W) * np.linalg.norm(way)
    assert np.linalg.norm((W + 1e-3 * way).T @ A) > np.linalg.norm(W.T @ A)
    assert np.linalg.norm(W.T @ A) <= np.linalg.norm(A.T @ A) + 1e-12


@pytest.mark.parametrize("kind", KINDS[:3])
def test_before_training_it_is_ista(kind):
    A, _, b = problem(1)
    model = UnrolledISTA(A, kind, layers=6, penalty=0.1, support=(0, 0))
    codes, _ = model.codes(tensor(b))
    np.testing.assert_allclose(codes, ista(A, b, 0.1, 6), atol=1e-5)


def test_before_training_unrolled_admm_is_admm_and_ends_in_the_lasso():
    A, _, b = problem(4)
    codes, _ = UnrolledADMM(A, layers=400, penalty=0.1).codes(tensor(b))
    inverse = np.linalg.inv(A.T @ A + np.eye(20))
    z = u = np.zeros((5, 20))
    for k in range(1, 6):
        x = (b @ A + z - u) @ inverse
        z = np.sign(x + u) * np.maximum(np.abs(x + u) - 0.1, 0)
        u = u + x - z
        np.testing.assert_allclose(codes[k], z, atol=1e-5)
    best = fista(A, b, 0.1, 3000)[-1]
    gap = objective(A, b, codes[-1].double().numpy(), 0.1) - objective(A, b, best, 0.1)
    assert (np.abs(gap) < 1e-5).all()


@settings(max_examples=10)
@given(SEEDS)
def test_relaxed_admm_has_the_same_fixed_points(seed):
    A, _, b = problem(seed)
    lasso = Lasso(0.1 / len(A), fit_intercept=False, tol=1e-12, max_iter=1_000_000)
    best = lasso.fit(A, b.T).coef_
    state = tensor(np.hstack([best, (b - best @ A.T) @ A]))
    model = UnrolledADMM(A, layers=2, penalty=0.1)
    with torch.no_grad():
        model.relaxations[1].fill_(1.6)
        for k in range(2):
            np.testing.assert_allclose(model.layer(k, state, tensor(b)), state, atol=1e-4)


def test_support_selection_spares_the_largest_and_them_alone():
    A, _, b = problem(2)
    plain = UnrolledISTA(A, "alista", layers=1, penalty=0.2, support=(0, 0))
    spared = UnrolledISTA(A, "alista", layers=1, penalty=0.2, support=(0.1, 1))
    v = b @ analytic_weight(A)
    order = np.argsort(-np.abs(v), axis=1)
    expected = plain(tensor(b)).detach().numpy()
    np.testing.assert_allclose(expected, np.sign(v) * np.maximum(np.abs(v) - 0.2, 0), atol=1e-5)
    for row in range(len(v)):
        largest = order[row, :2]
        kept = np.abs(v[row, largest]) > 0.2
        expected[row, largest[kept]] = v[row, largest[kept]]
    np.testing.assert_allclose(spared(tensor(b)).detach(), expected, atol=1e-5)


@settings(max_examples=10)
@given(SEEDS, st.sampled_from(KINDS))
def test_the_safeguard_bounds_the_residual(seed, kind):
    """With any numbers in the layers; every learned step halves the bound. At 0 it is ISTA."""
    A, _, b = problem(seed)
    torch.manual_seed(seed % 2**31)
    model = UnrolledISTA(A, kind, layers=30, penalty=0.1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    codes, taken = model.codes(tensor(b), safeguard=0.5)
    gaps = torch.stack([(x - model.ista_step(x, tensor(b))).norm(dim=1) for x in codes])
    bounds = gaps[0] * 0.5 ** taken.cumsum(0)
    assert (gaps[1:] <= bounds * (1 + 1e-5) + 1e-6).all()
    never, _ = model.codes(tensor(b), safeguard=0.0)
    np.testing.assert_allclose(never, ista(A, b, 0.1, 30), atol=1e-4)


@settings(max_examples=10)
@given(SEEDS, st.sampled_from(KINDS))
def test_scale_and_order_of_the_codes(seed, kind):
    A, _, b = problem(seed)
    order = np.random.default_rng(seed).permutation(20)
    one = UnrolledISTA(A, kind, layers=4, penalty=0.1)(tensor(b))
    turned = UnrolledISTA(A[:, order], kind, layers=4, penalty=0.1)(tensor(b))
    scaled = UnrolledISTA(A, kind, layers=4, penalty=0.4)(tensor(4 * b))
    np.testing.assert_allclose(turned.detach(), one.detach()[:, order], atol=1e-4)
    np.testing.assert_allclose(scaled.detach(), 4 * one.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", (*KINDS, "admm"))
def test_training_beats_ista_of_the_same_depth(kind):
    random = np.random.default_rng(0)
    A = sparse_problem(random, 25, 50)
    torch.manual_seed(0)

    def sample(count):
        return tuple(map(tensor, sparse_codes(random, A, count, density=0.2)))

    model = UnrolledADMM(A, 5) if kind == "admm" else UnrolledISTA(A, kind, layers=5)
    train(model, sample, pool=640, batch=64, steps=60, joint=20, rate=3e-3)
    x, b = sparse_codes(random, A, 500, density=0.2)
    rivals = [nmse_db(ista(A, b, penalty, 5)[-1], x)[0] for penalty in (0.01, 0.03, 0.1, 0.3)]
    assert nmse_db(model.codes(tensor(b))[0][-1].numpy(), x)[0] < min(rivals) - 0.2


def test_the_two_averages_of_the_error():
    truth = np.array([[3.0, 0], [0, 1]])
    estimate = np.array([[3.3, 0], [0, 0.99]])
    pooled, mean = nmse_db(estimate, truth)
    assert pooled == pytest.approx(10 * math.log10((0.09 + 0.0001) / 10))
    assert mean == pytest.approx((-20 - 40) / 2)


def test_codes_have_the_density_and_the_noise_asked_for():
    random = np.random.default_rng(0)
    A = sparse_problem(random, 50, 100)
    x, b = sparse_codes(random, A, 400, density=0.2, snr=30)
    noise = b - x @ A.T
    ratios = np.linalg.norm(noise, axis=1) / np.linalg.norm(x @ A.T, axis=1)
    np.testing.assert_allclose(ratios, 10**-1.5)
    assert (x != 0).mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(np.linalg.norm(A, axis=0), 1)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="kind 'lasso': must be one of lista"):
        UnrolledISTA(np.eye(2), "lasso")
