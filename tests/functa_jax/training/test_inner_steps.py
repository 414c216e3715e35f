"""Other steps: Gauss-Newton inside, Muon outside."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax import meta_train
from functa_jax.functa import load
from functa_jax.model import siren
from functa_jax.model.config import ModelConfig
from functa_jax.training import inner_loop, outer_loop
from functa_jax.training.config import OuterConfig
from groundfloor import cli

L = 4
NEWTON = ModelConfig(
    2, 8, 3, L, w0=5.0, update="gauss_newton", cg_iterations=L, rate_start=1.0, step_rates=2
)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((5, 6, 6, 2), np.float32)


def newton(config, matrix, target, penalty=0.0, rates=None):
    """One step from zero on the residuals matrix z - target, in float64."""
    rates = np.ones(L) if rates is None else rates
    after, error = compiled_newton(config, matrix, target, penalty, rates)
    return np.asarray(after), float(error)


@partial(jax.jit, static_argnums=0)
def compiled_newton(config, matrix, target, penalty, rates):
    params = siren.init(config, 0) | {"inner_rate": jnp.stack([rates] * 2)}
    model = siren.with_params(config, params)
    return inner_loop.step(model, lambda z: matrix @ z - target, jnp.zeros(L), 0, penalty=penalty)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), penalty=st.sampled_from([0.0, 0.3]))
def test_on_a_linear_model_it_is_ridge_regression(seed, penalty):
    """As many conjugate gradients as unknowns solve it, whatever the preconditioner."""
    random = np.random.default_rng(seed)
    with jax.enable_x64(True):
        matrix, target = random.normal(size=(20, L)), random.normal(size=20)
        found, error = newton(NEWTON, matrix, target, penalty, random.uniform(0.1, 3, L))
    ridge = matrix.T @ matrix / 20 + penalty / L * np.eye(L)
    np.testing.assert_allclose(found, np.linalg.solve(ridge, matrix.T @ target / 20), atol=1e-6)
    assert error == pytest.approx(np.mean(target**2))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_one_conjugate_gradient_is_a_step_of_the_best_length(seed):
    """Along the preconditioned gradient, until the slope along it is zero."""
    random, config = np.random.default_rng(seed), replace(NEWTON, cg_iterations=1)
    with jax.enable_x64(True):
        matrix, target = random.normal(size=(20, L)), random.normal(size=20)
        rates = random.uniform(0.1, 3, L)
        found, _ = newton(config, matrix, target, rates=rates)
        scaled, _ = newton(config, matrix, target, rates=7 * rates)
    direction = rates * (matrix.T @ target)
    np.testing.assert_allclose(found / direction, found[0] / direction[0], rtol=1e-6)
    assert abs(direction @ matrix.T @ (matrix @ found - target)) < 1e-8 * np.abs(direction).sum()
    np.testing.assert_allclose(scaled, found, rtol=1e-6)


@pytest.mark.slow
def test_its_outer_gradient_against_finite_differences():
    """Through the conjugate gradients as they are, not as if they had converged."""
    config = replace(NEWTON, cg_iterations=2)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), siren.init(config, 0))
        coords = jnp.asarray(siren.coordinate_grid(6), jnp.float64)
        image = jnp.asarray(IMAGES[0].reshape(36, 2), jnp.float64)

        @jax.jit
        def loss(params):
            model = siren.with_params(config, params)
            latent, _ = inner_loop.fit(model, coords, image, 2, penalty=0.1)
            return inner_loop.image_loss(model, coords, latent, image)[0]

        gradient = jax.grad(loss)(params)
        for name, value in siren.flatten(params).items():
            direction = np.random.default_rng(len(name)).normal(size=value.shape)
            moved = [
                siren.unflatten({**siren.flatten(params), name: value + h * direction})
                for h in (1e-6, -1e-6)
            ]
            expected = (loss(moved[0]) - loss(moved[1])) / 2e-6
            found = jnp.sum(siren.flatten(gradient)[name] * direction)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7, err_msg=name)


def test_a_perfect_fit_has_nowhere_to_go():
    """Zero over zero is no step, and no NaN in the outer gradient."""
    model_of = siren.init(NEWTON, 0)
    coords = siren.coordinate_grid(6)
    image = siren.with_params(NEWTON, model_of)(coords, jnp.zeros(L))

    def loss(params):
        model = siren.with_params(NEWTON, params)
        latent, errors = inner_loop.fit(model, coords, image, 2)
        return inner_loop.image_loss(model, coords, latent, image)[0], (latent, errors)

    gradient, (latent, errors) = jax.jit(jax.grad(loss, has_aux=True))(model_of)
    np.testing.assert_array_equal(latent, np.zeros(L))
    np.testing.assert_array_equal(errors, np.zeros(2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


# ---- Muon ----


def test_muon_turns_kernels_alike_in_all_directions_and_leaves_the_rest_to_adam():
    """The singular values of a kernel's first update are equal up to Newton-Schulz's 30 %."""
    config = ModelConfig(3, 16, 4, L, w0=5.0, step_rates=2)
    muon = outer_loop.optimizer(
        OuterConfig(
            optimizer="muon",
            outer_rate=1e-2,
            clip_norm=None,
            schedule="constant",
            warmup=0,
        )
    )
    params = siren.init(config, 0)

    def random(x):
        """No two directions equal, none so small that Newton-Schulz's five steps miss it."""
        if x.ndim == 1:
            return RANDOM.normal(size=x.shape).astype(np.float32)
        left, values, right = np.linalg.svd(RANDOM.normal(size=x.shape), full_matrices=False)
        return np.float32(left * np.linspace(1, 0.3, len(values)) @ right)

    gradient = jax.tree.map(random, params)
    muons, nadams = (
        siren.flatten(jax.jit(optimizer.update)(gradient, optimizer.init(params), params)[0])
        for optimizer in (muon, optax.nadam(1e-2))
    )
    for name, update in muons.items():
        if name.endswith("kernel"):
            values = np.linalg.svd(update, compute_uv=False)
            length = 1e-2 * max(1, update.shape[1] / update.shape[0]) ** 0.5
            assert (values > 0.65 * length).all() and (values < 1.3 * length).all(), name
        else:
            np.testing.assert_allclose(update, nadams[name], rtol=1e-5)


# ---- the command ----


@pytest.mark.slow
def test_a_run_with_them_is_found_as_it_was_written(tmp_path):
    out, flags = tmp_path / "run", ("--interpolation", "bilinear", "--cg-iterations", "2")
    command = ("digits-spatial", "--steps", "4", "--eval-every", "2", "--width", "8", "--images")
    command += ("60", "--batch-size", "8", "--classifier-rows", "50", "--out", str(out), *flags)
    cli.run(meta_train.main, meta_train.Config, meta_train.PRESETS, list(command))
    functa = load(out)
    images = RANDOM.random((3, 8, 8, 1), np.float32)
    latents, psnr = functa.encode(images)
    error = np.mean((functa.decode(latents) - images) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(psnr, -10 * np.log10(error), atol=1e-3)
