"""Training of the latent prior: many steps in one dispatch, averaged weights, exact resume."""

import shutil
import time
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from functa_jax.tasks.prior.diffusion_network import fresh, graph
from functa_jax.tasks.prior.diffusion_process import HALF_TURN, SMALLEST, mix
from functa_jax.training import devices
from functa_jax.training.checkpoints import Checkpoints
from groundfloor import seeds
from groundfloor.errors import UserError
from groundfloor.runs import Progress, Stopping

VALIDATE_EVERY = 100  # training steps in one dispatch
SAVE_SECONDS = 30
VALIDATION_ROWS = 2000


def train(network, parts, seed, folder):
    """(averaged weights, history). parts: (normalised latents, classes) of train, and perhaps
    validation; folder: keeps the states of this training alone, by which it goes on bit for bit
    after a kill; or None. history: rows [step, loss, validation loss or None].
    """
    config = network[0]
    mesh = devices.data_mesh(config.prior_batch)
    start = jax.device_get(_start(network, _stream(seed, "weights")))
    rounds = np.full((-(-config.prior_steps // VALIDATE_EVERY), 3), np.nan)
    checkpoints = folder and Checkpoints(folder)
    kept = checkpoints and checkpoints.restore({**start, "history": rounds})
    if kept:
        start, rounds = {key: kept[key] for key in start}, np.array(kept["history"])
        print(f"the prior goes on from step {int(start['step']):,}", flush=True)
    state = devices.put(start, mesh)
    train, *held = [tuple(devices.put(array, mesh) for array in part) for part in parts]
    run, validate = _dispatch(network, mesh), _validation(network)
    saved, step = time.monotonic(), int(start["step"])
    weights = sum(np.size(leaf) for leaf in jax.tree.leaves(start["params"]))
    print(
        f"training a prior of {weights:,} weights on {len(parts[0][0]):,} latents of "
        f"{'x'.join(map(str, network[1]))} numbers, {config.prior_steps:,} steps",
        flush=True,
    )
    with Progress(config.prior_steps, "prior step", start=step) as progress:
        while step < config.prior_steps:
            count = min(VALIDATE_EVERY, config.prior_steps - step)
            state, loss = run(state, *train, _stream(seed, "steps"), count)
            state, val_loss = validate(state, *held[0]) if held else validate(state)
            loss, val_loss = float(loss), float(val_loss)
            if not np.isfinite(loss):
                raise UserError(
                    f"the prior's loss is not finite by step {step + count:,}; lower --prior-rate"
                )
            rounds[step // VALIDATE_EVERY] = step + count, round(loss, 5), round(val_loss, 5)
            step += count
            progress.advance(count, loss=f"{loss:.4f}", validation=f"{val_loss:.4f}")
            if checkpoints and time.monotonic() - saved > SAVE_SECONDS:
                checkpoints.save({**devices.fetch(state), "history": rounds})
                Stopping.kept = f"step {step:,} of the prior in {folder}"
                saved = time.monotonic()
    history = [[int(at), loss, val_loss if held else None] for at, loss, val_loss in rounds]
    return devices.fetch(state["best"]), history


def forget(folder):
    """Delete the states of a training that has ended, and the folder above if it held no others."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.exists() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _stream(seed, name):
    """A key of its own for each use of chance."""
    return jax.random.fold_in(jax.random.key(seed), seeds.number(name))


def _optimizer(config):
    steps = config.prior_steps
    rate = optax.warmup_cosine_decay_schedule(0.0, config.prior_rate, min(200, steps // 4), steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))


@partial(jax.jit, static_argnums=0)
def _start(network, key):
    params = fresh(network, key)
    opt = _optimizer(network[0]).init(params)
    start = {"params": params, "opt": opt, "ema": params, "best": params}
    return start | {"best_loss": jnp.float32(jnp.inf), "step": jnp.int32(0)}


def _loss(model, latents, labels, angle, noise):
    """Mean squared error of v; latents (B, ...), angle (B,)."""
    z, v = mix(latents, noise, angle.reshape(-1, *[1] * (latents.ndim - 1)))
    return jnp.mean((model(z, angle, labels) - v) ** 2)


def _spread_angles(key, count):
    """Random angles, evenly spread over the schedule (one in each of `count` equal parts)."""
    places, within = jax.random.split(key)
    t = (jax.random.permutation(places, count) + jax.random.uniform(within, (count,))) / count
    return SMALLEST + (HALF_TURN - SMALLEST) * t


@cache
def _dispatch(network, mesh):
    """A compiled function: `count` training steps on random batches, one lax.scan."""
    config, _, num_classes = network
    optimizer = _optimizer(config)
    split = NamedSharding(mesh, PartitionSpec(devices.AXIS))

    def step(state, latents, labels, key):
        size = config.prior_batch
        keys = jax.random.split(jax.random.fold_in(key, state["step"]), 4)
        rows = jax.random.randint(keys[0], (size,), 0, len(latents))
        dropped = jax.random.uniform(keys[1], (size,)) < config.drop_labels
        angle, noise = (
            _spread_angles(keys[2], size),
            jax.random.normal(keys[3], (size, *latents.shape[1:])),
        )
        classes = jnp.where(dropped, num_classes, labels[rows])
        batch = [
            jax.lax.with_sharding_constraint(part, split)
            for part in (latents[rows], classes, angle, noise)
        ]

        def loss_of(params):
            return _loss(nnx.merge(graph(network), params), *batch)

        loss, gradient = jax.value_and_grad(loss_of)(state["params"])
        updates, opt = optimizer.update(gradient, state["opt"])
        params = optax.apply_updates(state["params"], updates)
        number = state["step"] + 1
        decay = jnp.minimum(config.ema, (1 + number) / (10 + number))
        ema = optax.incremental_update(params, state["ema"], 1 - decay)
        return state | {"params": params, "opt": opt, "ema": ema, "step": number}, loss

    @partial(jax.jit, static_argnames="count", donate_argnums=0)
    def run(state, latents, labels, key, count):
        state, losses = jax.lax.scan(
            lambda state, _: step(state, latents, labels, key), state, length=count
        )
        return state, losses.mean()

    return run


@cache
def _validation(network):
    """A compiled function: the validation loss of the averaged weights, and the best kept."""

    @jax.jit
    def validate(state, latents=None, labels=None):
        if latents is None:
            return state | {"best": state["ema"]}, jnp.float32(jnp.nan)
        model = nnx.merge(graph(network), state["ema"])
        latents, labels = latents[:VALIDATION_ROWS], labels[:VALIDATION_ROWS]
        losses = []  # at the same angles and noises each time
        for keys in jax.random.split(_stream(0, "validation"), (4, 2)):
            angle = _spread_angles(keys[0], len(latents))
            noise = jax.random.normal(keys[1], latents.shape)
            losses.append(_loss(model, latents, labels, angle, noise))
        loss = jnp.mean(jnp.stack(losses))
        better = loss < state["best_loss"]
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), state["ema"], state["best"]
        )
        return state | {"best": best, "best_loss": jnp.minimum(loss, state["best_loss"])}, loss

    return validate
