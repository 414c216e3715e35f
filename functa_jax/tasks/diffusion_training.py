"""Training of the latent prior: many steps in one dispatch, averaged weights, exact resume."""

import json
import time
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from common.errors import UserError
from common.runs import Progress, atomic
from common.split import first_line
from functa_jax import devices
from functa_jax.tasks.diffusion_network import fresh, graph
from functa_jax.tasks.diffusion_process import HALF_TURN, SMALLEST, mix

VALIDATE_EVERY = 100  # training steps in one dispatch
SAVE_SECONDS = 30
VALIDATION_ROWS = 2000


def train(network, parts, seed, kept, identity):
    """(averaged weights, history). parts: (normalised latents, classes) of train, and perhaps
    validation; kept: file of the state, by which a killed training goes on bit for bit."""
    config = network[0]
    mesh = devices.data_mesh(config.prior_batch)
    first, draws = jax.random.split(jax.random.key(seed))
    state = _start(network, first)
    state, history = _resume(kept, identity, jax.device_get(state))
    state = devices.put(state, mesh)
    train, *held = [tuple(devices.put(array, mesh) for array in part) for part in parts]
    run, validate = _dispatch(network, mesh), _validation(network)
    saved, step = time.monotonic(), int(devices.fetch(state["step"]))
    weights = sum(np.size(leaf) for leaf in jax.tree.leaves(state["params"]))
    print(
        f"training a prior of {weights:,} weights on {len(parts[0][0]):,} latents of "
        f"{'x'.join(map(str, network[1]))} numbers, {config.prior_steps:,} steps",
        flush=True,
    )
    with Progress(config.prior_steps, "prior step", start=step) as progress:
        while step < config.prior_steps:
            count = min(VALIDATE_EVERY, config.prior_steps - step)
            state, loss = run(state, *train, draws, count)
            state, val_loss = validate(state, *(held[0] if held else ()))
            loss, val_loss = float(loss), float(val_loss)
            if not np.isfinite(loss):
                raise UserError(
                    f"the prior's loss is not finite by step {step + count:,}; lower --prior-rate"
                )
            step += count
            history.append([step, round(loss, 5), round(val_loss, 5) if held else None])
            progress.advance(count, loss=f"{loss:.4f}", validation=f"{val_loss:.4f}")
            if kept is not None and time.monotonic() - saved > SAVE_SECONDS:
                _keep(kept, identity, devices.fetch(state), history)
                saved = time.monotonic()
    return devices.fetch(state["best"]), history


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
        for key in jax.random.split(jax.random.key(0), 4):
            noise = jax.random.normal(key, latents.shape)
            losses.append(_loss(model, latents, labels, _spread_angles(key, len(latents)), noise))
        loss = jnp.mean(jnp.stack(losses))
        better = loss < state["best_loss"]
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), state["ema"], state["best"]
        )
        return state | {"best": best, "best_loss": jnp.minimum(loss, state["best_loss"])}, loss

    return validate


def _keep(path, identity, state, history):
    leaves = jax.tree.leaves(state)
    about = json.dumps({"identity": identity, "history": history})
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *leaves, about=about)


def _resume(path, identity, start):
    """The state that was kept, if it is of this training and whole, else `start`."""
    if path is None or not path.exists():
        return start, []
    leaves, shape = jax.tree.flatten(start)
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            found = [file[f"arr_{i}"] for i in range(len(leaves))]
    except Exception as error:  # reading a damaged file may raise nearly anything
        print(f"{path} is damaged and was skipped ({first_line(error)})", flush=True)
        return start, []
    if about["identity"] != identity:
        return start, []
    print(f"the prior goes on from step {about['history'][-1][0]:,}", flush=True)
    return jax.tree.unflatten(shape, found), about["history"]
