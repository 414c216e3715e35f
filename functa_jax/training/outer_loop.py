"""The outer loop: gradient steps on the shared weights through the inner loop (MAML).

    loss(theta) = mean over images of the error of the image after K inner steps
                  (or after the first outer.training_steps of them)

One outer step needs one pass: loss, second-order gradient and PSNR come from the same
computation. On a CPU the batch is scanned an image at a time and gradients are summed, so
that activations stay in cache; a GPU takes the whole batch at once. Several steps run in one
dispatch, on data that already lie on the device. `outer` is a training.config.OuterConfig.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import PartitionSpec
from optax import contrib

from functa_jax.images import signals
from functa_jax.model import siren
from functa_jax.training import class_loss
from functa_jax.training.devices import AXIS, REPLICATED
from functa_jax.training.inner_loop import (
    apart,
    fit,
    image_loss,
    images_at_once,
    joined,
    points_and_batch,
    side_by_side,
)
from groundfloor import seeds


def mean_loss(model_config, outer, params, coords, images, points, keys, labels=None, weights=None):
    """Mean outer loss of images (B, N, C) and, from the same pass, their mean PSNR in dB.

    coords (N, d) and weights (N,) of points are for all images, or of each: (B, N, d) and (B, N).
    points: None or (inner, outer), the indices of the coordinates that the inner and the outer
    loss see (in a grid of cells: of each cell); each None for all. keys: one random key per image,
    for the latent noise. With labels (B,) the first is the pair of outer loss and class loss, (2,).
    """
    params, head = class_loss.without_head(params)
    model = siren.with_params(model_config, params, outer.precision)
    inner, outer_points = points
    steps = outer.inner_steps if outer.training_steps is None else outer.training_steps

    own, shared = apart(coords, images, weights)

    def one_image(row):
        image, key, own = row
        coords, weights = joined(own, shared)
        seen = slice(None) if inner is None else inner
        latent, _ = fit(
            model,
            coords[seen],
            image[seen],
            steps,
            penalty=outer.penalty,
            first_order=outer.first_order,
            weights=None if weights is None else weights[seen],
        )
        if outer.noise:
            latent = latent + outer.noise * jax.random.normal(key, latent.shape, latent.dtype)
        seen = slice(None) if outer_points is None else outer_points
        weights = None if weights is None else weights[seen]
        loss = image_loss(model, coords[seen], latent, image[seen], outer.penalty, weights)
        return *loss, latent

    losses, errors, latents = side_by_side(one_image, (images, keys, own))
    loss, decibels = jnp.mean(losses), jnp.mean(signals.psnr(errors))
    if labels is None:
        return loss, decibels
    return jnp.stack([loss, class_loss.cross_entropy(head, latents, labels)]), decibels


def outer_gradient(
    model_config,
    outer,
    params,
    coords,
    images,
    points,
    keys,
    at_once=None,
    labels=None,
    weights=None,
):
    """((loss, psnr), gradient of the loss in params) of a batch, `at_once` images at a time.

    The arguments of `mean_loss`. at_once must divide the batch; None is the whole batch. With
    labels (B,) there are two losses, (2,), and their gradients, (2, ...).
    """
    differentiate = partial(jax.value_and_grad, has_aux=True)
    if labels is not None:
        differentiate = class_loss.values_and_gradients
    loss_and_gradient = differentiate(partial(mean_loss, model_config, outer))
    batch = len(images)
    at_once = at_once or batch
    if at_once == batch:
        return loss_and_gradient(params, coords, images, points, keys, labels, weights)
    own, shared = apart(coords, images, weights)
    pieces = jax.tree.map(
        lambda x: x.reshape(batch // at_once, at_once, *x.shape[1:]), (images, keys, labels, own)
    )

    @jax.jit  # traced once for its shapes and for the loop
    def gradient_of(piece):
        images, keys, labels, own = piece
        coords, weights = joined(own, shared)
        return loss_and_gradient(params, coords, images, points, keys, labels, weights)

    def add_piece(total, piece):
        part = gradient_of(piece)
        return jax.tree.map(jnp.add, total, part), None

    shapes = jax.eval_shape(gradient_of, jax.tree.map(lambda x: x[0], pieces))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = lax.scan(add_piece, start, pieces)
    return jax.tree.map(lambda x: x * (at_once / batch), total)


def gradients_at_once(points, batch):
    """How many images to have gradients of side by side: one on a CPU (see `side_by_side`)."""
    return 1 if jax.default_backend() == "cpu" else images_at_once(points, batch)


def schedule(outer):
    """The outer rate as a function of the step."""
    first = 0.0 if outer.warmup else outer.outer_rate
    if outer.schedule == "constant":
        return optax.warmup_constant_schedule(first, outer.outer_rate, outer.warmup)
    steps = max(outer.steps, outer.warmup + 1)
    return optax.warmup_cosine_decay_schedule(first, outer.outer_rate, outer.warmup, steps)


def optimizer(outer):
    """Norm clip, Adam or Muon, schedule: the gradient transformation of the outer loop.

    Muon (Jordan 2024) takes steps of equal size along all singular directions of a layer's
    weights; what is no such matrix (biases, the inner loop's rates) has Adam, with Nesterov's
    momentum.
    """
    rate = schedule(outer)
    clip = optax.clip_by_global_norm(outer.clip_norm) if outer.clip_norm else optax.identity()
    if outer.optimizer == "adam":
        return optax.chain(clip, optax.adam(rate))
    return optax.chain(clip, contrib.muon(rate, muon_weight_dimension_numbers=_kernels))


def _kernels(params):
    """The kernels of layers, marked as matrices for Muon in the tree of params; else None."""
    return jax.tree.map_with_path(
        lambda path, _: contrib.MuonDimensionNumbers() if path[-1].key == "kernel" else None, params
    )


def init_state(model_config, outer, classes=None):
    """All that training carries on: parameters, their moving average, optimizer, step, damping.

    `damping` multiplies the outer rate; it is 1 until a roll-back halves it. classes: how many the
    images have, for outer.class_loss.
    """
    params = siren.init(model_config, outer.seed)
    if outer.class_loss:
        params = class_loss.with_head(params, model_config.latent_dim, classes)
    moments = jax.tree.map(_single, optimizer(outer).init(params))
    return {
        "params": params,
        "ema": jax.tree.map(jnp.copy, params),
        "optimizer": moments,
        "step": jnp.zeros((), jnp.int32),
        "damping": jnp.ones((), jnp.float32),
    }


def _single(x):
    """In 64-bit mode optax makes constants of that length; all else is float32 even then."""
    return x.astype(jnp.float32) if x.dtype == jnp.float64 else x


@partial(jax.jit, static_argnums=(0, 1))  # traced once for dispatches of several lengths
def outer_step(model_config, outer, state, coords, images, positions, labels=None, weights=None):
    """One step on this device's share of the batch, images (b, N, C) in [0, 1].

    coords and weights as in `mean_loss`. positions (b,): places of these images in the whole batch,
    which seed their noise. labels (b,): for outer.class_loss.
    Returns the new state and {"loss", "psnr", "gradient_norm"}, means over all devices; with labels
    "class_loss", too.
    """

    def key(use):
        stream = jax.random.fold_in(jax.random.key(outer.seed), seeds.number(use))
        return jax.random.fold_in(stream, state["step"])

    keys = jax.vmap(partial(jax.random.fold_in, key("noise")))(positions)
    points = tuple(
        None if count is None else jax.random.permutation(key(use), images.shape[1])[:count]
        for use, count in (("inner", outer.inner_points), ("outer", outer.outer_points))
    )
    at_once = gradients_at_once(*points_and_batch(images[:, : outer.inner_points]))
    while len(images) % at_once:
        at_once -= 1
    gradient = outer_gradient(
        model_config, outer, state["params"], coords, images, points, keys, at_once, labels, weights
    )
    (loss, decibels), gradient = lax.pmean(gradient, AXIS)
    metrics = {"loss": loss, "psnr": decibels}
    if labels is not None:
        gradient = class_loss.balanced(loss, gradient)
        metrics |= {"loss": loss[0], "class_loss": loss[1]}

    updates, opt_state = optimizer(outer).update(gradient, state["optimizer"], state["params"])
    updates = jax.tree.map(lambda u: state["damping"] * u, updates)
    params = optax.apply_updates(state["params"], updates)
    if "inner_rate" in params:
        params["inner_rate"] = jnp.clip(params["inner_rate"], *outer.rate_range)
    step = state["step"] + 1
    # A young average forgets its start sooner.
    decay = jnp.minimum(outer.ema, step / (step + jnp.float32(9)))
    state = {
        "params": params,
        "ema": optax.incremental_update(params, state["ema"], 1 - decay),
        "optimizer": opt_state,
        "step": step,
        "damping": state["damping"],
    }
    return state, metrics | {"gradient_norm": optax.tree.norm(gradient)}


def make_train(model_config, outer, mesh, streamed=False):
    """A compiled `train(state, coords, images, labels, rows, positions, weights=None)` of many
    outer steps.

    coords and images (n, N, C), uint8 or floats about [0, 1], the whole training set, resident on
    every device, as in `Samples`, which also has the weights of points; labels (n,) int32 for
    outer.class_loss, else None; rows (S, B) int32, the images of each of S steps. metrics are
    arrays (S,). The state given is consumed (its memory is used again).
    streamed: instead images (S, B, N, C) and labels (S, B) are those of the S steps, rows None.
    """

    def train(state, coords, images, labels, rows, positions, weights):
        own, shared = apart(coords, images, weights)

        def step(state, rows):
            parts = rows if streamed else jax.tree.map(lambda x: x[rows], (images, labels, own))
            batch, kinds, own_of_batch = parts
            if batch.dtype == jnp.uint8:
                batch = batch.astype(coords.dtype) / 255
            at, weigh = joined(own_of_batch, shared)
            return outer_step(model_config, outer, state, at, batch, positions, kinds, weigh)

        return lax.scan(step, state, (images, labels, own) if streamed else rows)

    by_rows, by_position = PartitionSpec(None, AXIS), PartitionSpec(AXIS)
    of_images = by_rows if streamed else REPLICATED
    sharded = jax.shard_map(
        train,
        mesh=mesh,
        in_specs=(REPLICATED, REPLICATED, of_images, of_images, by_rows, by_position, REPLICATED),
        out_specs=(REPLICATED, REPLICATED),
        check_vma=False,
    )

    @partial(jax.jit, donate_argnums=0)
    def compiled(state, coords, images, labels, rows, positions, weights=None):
        return sharded(state, coords, images, labels, rows, positions, weights)

    return compiled
