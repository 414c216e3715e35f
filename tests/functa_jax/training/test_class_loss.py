"""The class loss of the outer loop: both losses weigh alike, and the inner loop never sees it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functa_jax.training import class_loss

LATENTS = np.random.default_rng(0).normal(size=(6, 2, 2, 5)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def head(latent_dim=5, classes=3):
    draw = np.random.default_rng(1).normal
    return {"weights": draw(size=(latent_dim, classes)), "biases": draw(size=classes)}


def test_at_the_start_all_classes_are_equally_likely():
    params = class_loss.with_head({"siren": 1}, 5, 3)
    functa, start = class_loss.without_head(params)
    assert functa == {"siren": 1}
    np.testing.assert_allclose(class_loss.cross_entropy(start, LATENTS, LABELS), np.log(3), 1e-6)


def test_cross_entropy_is_that_of_the_mean_cell_and_of_no_scale():
    features = LATENTS.mean((1, 2))
    features = features / np.sqrt((features**2).mean(1, keepdims=True))
    logits = features @ head()["weights"] + head()["biases"]
    goals = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
    expected = np.mean(np.log(np.exp(logits).sum(1)) - (goals * logits).sum(1))
    for scale in (1, 1000):
        found = class_loss.cross_entropy(head(), scale * LATENTS, LABELS)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    blank = class_loss.cross_entropy(head(), 0 * LATENTS, LABELS)
    assert np.isfinite(blank)


def test_the_balanced_gradient_is_that_of_the_losses_over_their_own_values():
    def losses(x):
        return jnp.stack([jnp.sum(x**2), 50 + jnp.sin(x[0]) * x[1]]), None

    def balanced(x):
        values, _ = losses(x)
        return jnp.sum(values / jax.lax.stop_gradient(values))

    x = jnp.array([0.3, -2.0])
    (values, _), gradients = class_loss.values_and_gradients(losses)(x)
    assert gradients.shape == (2, 2)
    found = class_loss.balanced(values, gradients)
    np.testing.assert_allclose(found, jax.grad(balanced)(x), rtol=1e-5)


@pytest.mark.parametrize("tree", [{}, {"a": 1}])
def test_without_a_head_nothing_is_taken_away(tree):
    assert class_loss.without_head(tree) == (tree, None)


def test_the_loss_never_nears_zero_by_which_it_is_divided():
    """The least value of a smoothed cross-entropy is the entropy of the smoothed label."""
    goal = 0.9 * np.eye(3)[0] + 0.1 / 3
    for scale in (1.0, 10.0, 1000.0):
        sure = {"weights": scale * np.eye(5, 3), "biases": np.zeros(3)}
        latents = np.eye(5)[LABELS].astype(np.float32)
        found = class_loss.cross_entropy(sure, latents, LABELS)
        assert found >= -np.sum(goal * np.log(goal)) - 1e-6
