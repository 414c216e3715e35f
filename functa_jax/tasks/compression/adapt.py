"""A decoder that allows for rounding: the network trained on, with its latents rounded.

    python -m functa_jax.tasks.compression.adapt --run RUN --out FOLDER
    python -m functa_jax.tasks.compress --run RUN --decoder FOLDER/functa.npz

The latents of the train images stay as they are, are rounded at steps drawn anew for each image,
and the network learns to make the images of them: its first order, no inner loop. Latents are
fitted by the network they came from, as before.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax

from functa_jax.images import signals
from functa_jax.model import siren
from functa_jax.tasks import task
from functa_jax.tasks.compression import curves
from functa_jax.tasks.compression.codec import ZERO
from functa_jax.tasks.compression.encoding import Latents, as_grids, rendered
from groundfloor import cli, seeds
from groundfloor.checks import Count, Interval, Positive
from groundfloor.errors import UserError
from groundfloor.runs import Progress, Stopping, locked


@dataclass(frozen=True)
class Config(task.TaskConfig):
    """How long to train the decoder on, and for which steps of the quantiser."""

    steps: Count = 1000
    """Training steps."""
    batch_size: Count = 32
    """Images per step."""
    rate: Positive = 1.5e-4
    """Learning rate of Adam; it falls to zero along a cosine."""
    finest: Annotated[float, Interval(1, 255)] = 24.0
    """Smallest step of the quantiser, in grey levels."""
    coarsest: Annotated[float, Interval(1, 255)] = 104.0
    """Largest step of the quantiser."""


PULL = 0.05  # of a step: so much nearer zero lie numbers that were not rounded to it
KEEP_EVERY = 250  # steps between checkpoints
SMALLEST_ERROR = 3e-4  # mean squared error of a picture whose latent is not rounded, about
VAL_ROWS = 300
SETTINGS = ("steps", "batch_size", "rate", "finest", "coarsest", "seed")


def main(config):
    """Train, and write functa.npz in config.out; returns validation PSNR before and after, in dB.

    Both are means over steps of the quantiser. The same command goes on where it was stopped.
    UserError, and no file, if the decoder has not become better.
    """
    material = task.load(config, images_only=True)
    functa, data = material.functa, material.data
    settings = {name: getattr(config, name) for name in SETTINGS}
    about = f"{material.origin} {settings}"
    kept = material.path(f"adapting-{hashlib.sha256(about.encode()).hexdigest()[:16]}")
    path = material.path("functa.npz")
    print(f"adapting {functa} in {config.steps:,} steps; {path}, checkpoints in {kept}", flush=True)
    coder = Latents(functa, functa, material.unaugmented, {})
    part = "val" if len(data.val) else "train"
    latents, images = getattr(material.functaset, part).latents, getattr(data, part).images
    held = latents[:VAL_ROWS], images[:VAL_ROWS]
    before = psnr(config, coder, functa, *held)

    with locked(kept):
        params = trained(config, coder, data.train.images, kept)
    made = {**functa.metadata, "adapted_from": functa.hash, "adapted": settings}
    adapted = replace(functa, params=params, metadata=made)
    after = psnr(config, coder, adapted, *held)
    if not after > before:
        raise UserError(
            f"the decoder has not become better ({part} {before:.2f} -> {after:.2f} dB), so that "
            "it is not written; try a lower --rate or more --steps"
        )
    adapted.save(path)
    print(f"{part} {before:.2f} -> {after:.2f} dB: {path}")
    return {"before": before, "after": after}


def trained(config, coder, images, kept):
    """The parameters after all steps on train images, from the newest checkpoint in `kept`."""
    from functa_jax.training.checkpoints import Checkpoints

    train_step, state = training(config, coder.functa)
    checkpoints = Checkpoints(kept)
    state = checkpoints.restore(state) or state
    latents, step = coder.functaset.train.latents, int(state["step"])
    with Progress(config.steps, "step", start=step) as progress:
        while step < config.steps:
            random = np.random.default_rng(seeds.fold(config.seed, "adapt", step))
            rows = random.integers(0, len(images), config.batch_size)
            state, error = train_step(
                state, *batch(config, coder, latents[rows], images[rows], random)
            )
            step += 1
            progress.advance(1, error=f"{error:.5f}")
            if step % KEEP_EVERY == 0 or step == config.steps:
                checkpoints.save(jax.device_get(state))
                Stopping.kept = f"step {step:,} in {kept}"
    return jax.device_get(state["params"])


def training(config, functa):
    """(compiled step, state): step(state, latents, pixels, weights) -> (state, mean error).

    latents (b, ...), pixels (b, ...) as siren.arrange gives them, weights (b,) of their errors.
    """
    model, points = functa.config, siren.points(functa.config, functa.resolution)
    warmup = min(100, config.steps // 10)
    rates = optax.warmup_cosine_decay_schedule(0.0, config.rate, warmup, config.steps + 1)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates))

    def error(params, latent, pixels):
        return jnp.mean((siren.with_params(model, params)(points, latent) - pixels) ** 2)

    @jax.jit
    def step(state, latents, pixels, weights):
        params = state["params"]

        def add_image(total, image):  # one by one: activations stay in cache
            latent, pixels, weight = image
            value, gradient = jax.value_and_grad(error)(params, latent, pixels)
            return jax.tree.map(lambda a, b: a + weight * b, total, gradient), value

        zero = jax.tree.map(jnp.zeros_like, params)
        total, errors = jax.lax.scan(add_image, zero, (latents, pixels, weights))
        mean = jax.tree.map(lambda x: x / len(latents), total)
        changes, moments = optimizer.update(mean, state["optimizer"])
        params = optax.apply_updates(params, changes)
        after = {"params": params, "optimizer": moments, "step": state["step"] + 1}
        return after, errors.mean()

    params = jax.tree.map(jnp.asarray, functa.params)
    return step, {"params": params, "optimizer": optimizer.init(params), "step": jnp.int32(0)}


def batch(config, coder, latents, images, random):
    """(rounded latents, pixels, weights) of a training step, each at a step of the quantiser of its
    own; an image's weight is about the inverse of its error at that step."""
    steps = np.exp(random.uniform(*np.log([config.finest, config.coarsest]), len(images)))
    pixels = siren.arrange(coder.functa.config, signals.to_float(images))
    weights = np.float32(SMALLEST_ERROR / (SMALLEST_ERROR + (steps / 255) ** 2 / 12))
    return rounded(coder, latents, steps), pixels, weights


def rounded(coder, latents, steps):
    """Latents (n, ...) as a decoder sees them after rounding at steps (n,) in grey levels."""
    sizes = np.reshape(steps / 255, (-1, 1, 1, 1))
    wanted = coder.transform.apply(as_grids(coder.functa, latents)) / sizes
    whole = np.floor(np.abs(wanted) + ZERO)
    pulled = np.sign(wanted) * np.maximum(whole - PULL, 0) * sizes
    return coder.transform.undo(np.float32(pulled)).reshape(latents.shape)


def psnr(config, coder, decoder, latents, images):
    """Mean of per-image PSNR in dB of rounded latents, over three steps of the quantiser."""
    found = []
    for step in np.geomspace(config.finest, config.coarsest, 3):
        grids = rounded(coder, latents, np.full(len(latents), step))
        found.append(curves.mean_psnr(rendered(decoder, grids), images))
    return float(np.mean(found))


if __name__ == "__main__":
    cli.run(main, Config)
