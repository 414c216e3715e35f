"""Sparse codes x of b = A x + noise by iteration, in NumPy; rows are samples.

A (m, n), b (batch, m), x (batch, n). The lasso here is ½‖b − Ax‖² + λ‖x‖₁ (scikit-learn's divides
the first part by m). Daubechies, Defrise, De Mol 2004 (ISTA); Beck, Teboulle 2009 (FISTA).
"""

import math

import numpy as np

from optim_torch.robust.linear import soft


def ista(A, b, penalty, steps):
    """x after 0, 1, ... steps (steps + 1, batch, n): x ← soft(x + A'(b − Ax)/L, λ/L), L = ‖A‖²."""
    curvature = np.linalg.norm(A, 2) ** 2
    codes = [np.zeros((len(b), A.shape[1]))]
    for _ in range(steps):
        x = codes[-1]
        codes.append(soft(x + (b - x @ A.T) @ A / curvature, penalty / curvature))
    return np.array(codes)


def fista(A, b, penalty, steps):
    """The same with Nesterov's momentum."""
    curvature = np.linalg.norm(A, 2) ** 2
    codes, t = [np.zeros((len(b), A.shape[1]))], 1.0
    point = codes[0]
    for _ in range(steps):
        x = soft(point + (b - point @ A.T) @ A / curvature, penalty / curvature)
        t, old = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
        point = x + (old - 1) / t * (x - codes[-1])
        codes.append(x)
    return np.array(codes)


def analytic_weight(A):
    """W (m, n) of ALISTA: of all with w_j'a_j = 1 the one with the least ‖W'A‖.

    w_j = (AA')⁻¹a_j / a_j'(AA')⁻¹a_j: column by column, a least squares problem with one
    constraint. Liu, Chen, Wang, Yin 2019, "ALISTA", solve it by projected gradients.
    """
    solved = np.linalg.solve(A @ A.T, A)
    return solved / (A * solved).sum(axis=0)


def nmse_db(estimate, truth):
    """Normalised squared error of (..., batch, n) in dB, twice: pooled, and the mean of the dB.

    pooled: 10 log₁₀(Σ‖x̂ − x‖² / Σ‖x‖²). The other average takes the logarithm for each sample
    before the mean; without noise it is lower by up to 16 dB. Compare like with like.
    """
    errors = ((estimate - truth) ** 2).sum(axis=-1)
    sizes = (truth**2).sum(axis=-1)
    pooled = 10 * np.log10(errors.sum(axis=-1) / sizes.sum(axis=-1))
    return pooled, 10 * np.log10(errors / sizes).mean(axis=-1)


def sparse_problem(random, m, n):
    """A (m, n), Gaussian with columns of norm 1."""
    A = random.standard_normal((m, n))
    return A / np.linalg.norm(A, axis=0)


def sparse_codes(random, A, batch, density=0.1, snr=math.inf, scale=1.0):
    """x (batch, n), a share `density` of it N(0, scale²), and b = A x + noise at `snr` dB."""
    shape = (batch, A.shape[1])
    x = scale * random.standard_normal(shape) * (random.random(shape) < density)
    b = x @ A.T
    noise = random.standard_normal(b.shape)
    sizes = np.linalg.norm(b, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return x, b + 10 ** (-snr / 20) * sizes * noise
