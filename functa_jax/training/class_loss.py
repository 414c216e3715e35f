"""Latents that also tell the class: a second loss in the outer loop; the inner loop sees none.

    L = L_rec / stop_grad(L_rec) + L_ce / stop_grad(L_ce)

(RoelvH97/MetaLF 2026, "joint" training): both losses weigh alike at every step, and no weight is to
be chosen. L_ce is the cross-entropy of one linear layer on the mean of a latent's cells; the layer
is trained with the network and thrown away after it. Its labels are smoothed: else L_ce nears zero
where few images are learned by heart, and divided by itself it takes the whole gradient.
"""

import jax
import jax.numpy as jnp
import optax

HEAD = "classifier"  # its place in the parameters of a training
SMOOTHING = 0.1  # share of a label that is spread over all classes


def with_head(params, latent_dim, classes):
    """Parameters with those of the layer, which start at zero: the classes are equally likely."""
    zeros = {"weights": (latent_dim, classes), "biases": (classes,)}
    return params | {HEAD: {name: jnp.zeros(shape) for name, shape in zeros.items()}}


def without_head(params):
    """(parameters of the functa alone, those of the layer or None)."""
    return {name: part for name, part in params.items() if name != HEAD}, params.get(HEAD)


def cross_entropy(head, latents, labels):
    """Mean cross-entropy of latents (B, L) or (B, s, s, L) and smoothed labels (B,).

    Each latent's mean over cells is divided by its root mean square: latents may be of any size.
    """
    features = latents.mean(tuple(range(1, latents.ndim - 1)))
    size = jnp.sqrt(jnp.mean(features**2, axis=-1, keepdims=True))
    features = features / (size + jnp.finfo(features.dtype).eps)
    logits = features @ head["weights"] + head["biases"]
    goals = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), SMOOTHING)
    return jnp.mean(optax.losses.softmax_cross_entropy(logits, goals))


def values_and_gradients(losses):
    """As `jax.value_and_grad(losses, has_aux=True)` of a function with several losses (K,), whose
    gradients have a leading axis of K. One after the other: a dimension of losses costs a CPU what
    one of images does (see `inner_loop.side_by_side`)."""

    def both(params, *arguments):
        values, pull, aux = jax.vjp(lambda p: losses(p, *arguments), params, has_aux=True)
        gradients = [pull(one)[0] for one in jnp.eye(len(values), dtype=values.dtype)]
        return (values, aux), jax.tree.map(lambda *of_each: jnp.stack(of_each), *gradients)

    return both


def balanced(losses, gradients):
    """The gradient of sum_k L_k / stop_grad(L_k), from losses (K,) and gradients (K, ...)."""
    weights = 1 / (losses + jnp.finfo(losses.dtype).tiny)
    return jax.tree.map(lambda gradient: jnp.tensordot(weights, gradient, 1), gradients)
