"""Outer training of a run: dispatches, validation, checkpoints, exact resume, divergence guard."""

import math
import time
import timeit
from dataclasses import replace
from functools import cache, partial

import jax
import numpy as np
from jax.sharding import PartitionSpec

from functa_jax.evaluation import reconstruction
from functa_jax.functa import Functa
from functa_jax.model import refined_pca
from functa_jax.model.config import ModelConfig
from functa_jax.training import class_loss, devices, feed, outer_loop
from functa_jax.training.checkpoints import Checkpoints
from functa_jax.training.samples import Samples
from groundfloor import precision
from groundfloor.data.datasets import Dataset
from groundfloor.data.functions import FunctionSet
from groundfloor.errors import UserError
from groundfloor.runs import Progress, counted, duration

VALIDATION_IMAGES = 1000
MAX_ROLLBACKS = 10
TIMED_STEPS = 3  # outer steps that choose a precision
GUARDED_STEPS = 50  # outer steps whose mean PSNR is held against the best so far


def model_config(config, data):
    """The ModelConfig of a meta_train.Config for a Dataset, images (n, h, w, C), a FunctionSet."""
    if isinstance(data, FunctionSet):
        return ModelConfig.of(
            config,
            channels=data.train.values.shape[-1],
            step_rates=config.inner_steps if config.rates_of_steps else None,
            inputs=data.train.coords.shape[-1],
            modality=data.modality,
        )
    images = data.train.images if isinstance(data, Dataset) else data
    return ModelConfig.of(
        config,
        channels=images.shape[-1],
        step_rates=config.inner_steps if config.rates_of_steps else None,
        picture=images.shape[1:3] if config.decoder == "refined_pca" else None,
    )


def train(config, data, run, weights=None):
    """Train to config.steps, from the newest good checkpoint if there is one.

    weights: parameters to start from, None for random ones.
    run: the Run to write to; None keeps all in memory (so do processes other than the first).
    Returns (Functa with averaged parameters, seconds spent training in all).
    """
    of_images = isinstance(data, Dataset)
    model = model_config(config, data)
    mesh = devices.data_mesh(config.batch_size)
    if run is not None:
        _announce(config, data, run, model, mesh)
    say = print if run is not None else (lambda *_: None)
    checkpoints = Checkpoints(run.path("checkpoints") if run is not None else None)

    start = jax.device_get(outer_loop.init_state(model, config, data.num_classes))
    if weights is None and model.decoder == "refined_pca":
        folder = run.folder if run is not None else None
        pca = reconstruction.pca(data.train.images, model.numbers, folder)
        if pca is None:
            raise UserError(f"--decoder refined_pca: {data.name} is too large for its PCA")
        weights = devices.of_first(refined_pca.with_pca(start["params"], pca))
    if weights is not None:
        start["params"] = start["params"] | weights
        start["ema"] = jax.tree.map(np.copy, start["params"])
    # A checkpoint also holds the seconds spent so far and the best training PSNR.
    start |= {"seconds": np.zeros((), np.float32), "best": np.array(-np.inf, np.float32)}
    state = checkpoints.restore(start, say)
    if state is None:
        checkpoints.save(start)
        state = dict(start)
    else:
        say(f"resuming from the checkpoint at step {int(state['step']):,}")
    step, seconds_before = int(state["step"]), float(state.pop("seconds"))
    checkpoint = step
    guard = Guard(float(state.pop("best")), config.collapse)
    if run is not None:
        run.forget_after(step)
    damping = float(state["damping"])
    went_back = run is not None and _begins_after_rollback(run.rows(), step, damping)
    went_back = bool(devices.of_first(np.int32(went_back)))

    coords = resolution = None  # where each function has points of its own
    if of_images:
        resolution = data.train.images.shape[1:3]
    elif data.train.shared:
        coords, resolution = data.train.coords, data.lattice
    outer_steps = OuterSteps(config, data, model, mesh)
    if config.precision == "auto":
        path = run and run.path("precision.json")
        if path and step and not path.exists():
            raise UserError(f"{path} is missing: it says in which precision this run began")
        measured = partial(outer_steps.seconds_by_precision, state)
        outer_steps.run = outer_steps.compiled(precision.chosen("auto", path, measured))

    def functa_of(state):
        return Functa(
            model,
            class_loss.without_head(devices.fetch(state["ema"]))[0],
            resolution,
            config.inner_steps,
            config.penalty,
            {
                "data": data.name,
                "data_fingerprint": data.fingerprint,
                "scale": None if of_images else data.scale,
                "step": int(state["step"]),
            },
            coords,
            config.fit_points,
        )

    def evaluate(state, row):
        functa = functa_of(state)
        _, errors = functa.course_of(data.val.take(slice(VALIDATION_IMAGES)))
        row["val_psnr"] = [round(float(p), 4) for p in reconstruction.mean_psnr(errors)]
        functa.save(run.path("functa.npz"))

    def kept(state, row, numbers, due):
        if run is not None:
            if due:
                evaluate(state, row)
            run.log(step=int(state["step"]), seconds=round(float(numbers["seconds"]), 2), **row)
        if due:
            checkpoints.save({**devices.fetch(state), **numbers})

    state = devices.put(state, mesh)
    began = time.monotonic()
    with Progress(config.steps, "step", start=step) as progress:
        while step < config.steps:
            evaluated = (step // config.eval_every + 1) * config.eval_every
            until = min(step + config.dispatch, config.steps, evaluated)
            state, metrics = outer_steps(state, step, until)
            metrics = devices.fetch(metrics)
            due = until % config.eval_every == 0 or until == config.steps
            fault = guard.fault(step, metrics, due)
            if fault:
                seen_at, words = fault
                damping = devices.fetch(state["damping"]) / 2
                _stop_or_go_on(config, words, damping)
                if went_back or seen_at <= checkpoint + GUARDED_STEPS:  # saved while falling
                    checkpoints.forget(checkpoint)
                state = checkpoints.restore(start, say)
                state["damping"] = damping
                step, went_back = int(state["step"]), True
                checkpoint = step
                if run is not None:  # before it counts: a kill in between repeats the same
                    run.forget_after(step)
                    run.log(step=step, event="rollback", fault=words, damping=float(damping))
                checkpoints.save(state)
                state.pop("seconds")
                guard = Guard(float(state.pop("best")), config.collapse)
                state = devices.put(state, mesh)
                progress.advance(step - progress.done)
                if run is not None:
                    progress.say(f"{words}; back to step {step:,}, outer rate times {damping:g}")
                continue

            progress.advance(
                until - step,
                psnr=f"{metrics['psnr'].mean():.2f} dB",
                speed=f"{_rate(progress, until - step, config.batch_size):.0f} {data.noun}s/s",
            )
            step = until
            row = {name: float(value.mean()) for name, value in metrics.items()}
            seconds = seconds_before + time.monotonic() - began
            numbers = {"seconds": np.float32(seconds), "best": np.float32(guard.best)}
            keep = partial(kept, state, row, numbers, due)
            if due:
                devices.everywhere(keep)  # a full disk of one ends all
                checkpoint, went_back = step, False
            else:
                keep()
    return functa_of(state), seconds_before + time.monotonic() - began


def _begins_after_rollback(rows, step, damping):
    """Whether the checkpoint at `step` is that of a roll-back, nothing after it: the last row says
    so, and the checkpoint has its damping (a kill between the two leaves the one before)."""
    last = rows[-1] if rows else {}
    return (last.get("event"), last.get("step"), last.get("damping")) == ("rollback", step, damping)


class OuterSteps:
    """The outer steps of a training, compiled, with all that they see of the data on its devices,
    or on the way there."""

    def __init__(self, config, data, model, mesh):
        """config: meta_train.Config; model: `model_config` of it and the data."""
        streamed = isinstance(data, Dataset) and feed.is_streamed(data.train, config.resident)
        split = data.train.take(slice(0)) if streamed else data.train
        samples = Samples.of(model, split).instructive(model)
        if streamed:
            self.images = feed.Streamed(model, config, data.train, mesh)
        else:
            labels = data.train.labels if config.class_loss else None
            self.images = feed.Resident(config, samples, labels, mesh)
        self.points = devices.put(samples.coords, mesh)
        self.weights = devices.put(samples.weights, mesh)
        positions = np.arange(config.batch_size, dtype=np.int32)
        self.positions = devices.put(positions, mesh, PartitionSpec(devices.AXIS))
        self.config, self.model, self.mesh, self.streamed = config, model, mesh, streamed
        self.run = self.compiled(config.precision)

    def compiled(self, precision):
        """`outer_loop.make_train` with matrix products in a precision."""
        outer = replace(self.config, precision=precision)
        return outer_loop.make_train(self.model, outer, self.mesh, self.streamed)

    def seconds_by_precision(self, state):
        """{"float32": seconds, "bfloat16": seconds} of an outer step from a state of NumPy arrays,
        the least of TIMED_STEPS in turns."""
        runs = {name: self.compiled(name) for name in precision.KINDS}
        times, arguments = {name: [] for name in runs}, self._arguments(0, 1)
        for _ in range(1 + TIMED_STEPS):  # the first compiles
            for name, run in runs.items():
                on_devices = devices.put(state, self.mesh)
                began = time.perf_counter()
                jax.block_until_ready(run(on_devices, *arguments))
                times[name].append(time.perf_counter() - began)
        return {name: min(found[1:]) for name, found in times.items()}

    def __call__(self, state, step, until):
        """The state after the steps from `step` until `until`, and their metrics, arrays (S,)."""
        return self.run(state, *self._arguments(step, until))

    def _arguments(self, step, until):
        values, labels, rows = self.images.steps(step, until)
        return self.points, values, labels, rows, self.positions, self.weights


def _rate(progress, steps, batch_size):
    """Images, or other functions, per second since training began in this process."""
    elapsed = max(time.monotonic() - progress.began, 1e-9)
    return (progress.done - progress.start + steps) * batch_size / elapsed


class Guard:
    """Watches a training for a loss that is not finite and for a collapse.

    The mean training PSNR of every GUARDED_STEPS steps after a checkpoint (and of those left before
    the next one) is held against the best so far, however many steps a dispatch has.
    best: of these means, dB, carried on from the checkpoint; collapse: the fall that is one, dB.
    """

    def __init__(self, best, collapse):
        self.best, self.collapse, self.recent = best, collapse, []

    def fault(self, step, metrics, checkpoint):
        """What went wrong in the steps after `step`, or None: the step at which it is seen, and
        words that name it.

        metrics: arrays (S,); checkpoint: whether one follows them.
        """
        bad = ~np.isfinite(metrics["loss"] + metrics["gradient_norm"])
        if bad.any():
            step += int(bad.argmax()) + 1
            return step, f"the loss is not finite at step {step:,}"
        for number, psnr in enumerate(metrics["psnr"], 1):
            self.recent.append(float(psnr))
            last = checkpoint and number == len(metrics["psnr"])
            if len(self.recent) < GUARDED_STEPS and not last:
                continue
            mean, self.recent = np.mean(self.recent), []
            if mean < self.best - self.collapse:
                fall = f"{mean:.1f} dB after {self.best:.1f} dB"
                return step + number, f"training collapsed by step {step + number:,}: {fall}"
            self.best = float(np.float32(max(self.best, mean)))  # as a checkpoint holds it
        return None


class Diverged(UserError):
    """Training came to nothing, and no roll-back mends it."""


def _stop_or_go_on(config, fault, damping):
    """damping: of the outer rate after this roll-back, 2**-n after n of them."""
    if config.on_divergence == "stop":
        raise Diverged(f"{fault}; lower --outer-rate, or give --on-divergence rollback")
    if damping < 2.0**-MAX_ROLLBACKS:
        raise Diverged(f"{fault}, after {MAX_ROLLBACKS} roll-backs; lower --outer-rate")


def _announce(config, data, run, model, mesh):
    if isinstance(data, Dataset):
        sides = data.train.images.shape[1:3]
    else:
        sides = data.lattice or data.train.values.shape[1:2]
    points = math.prod(sides)
    flops = config.steps * step_flops(config, model, points)
    kind = mesh.devices.flat[0].device_kind
    what = {"siren": "a modulated SIREN", "refined_pca": "convolutions that refine PCA"}
    print(
        f"meta-learning {what[config.decoder]} (width {config.width}, depth {config.depth}, latent "
        f"{'x'.join(map(str, model.latent_shape))}) on {data.name}: "
        f"{counted(len(data.train), f'train {data.noun}')} of {'x'.join(map(str, sides))}, "
        f"{counted(config.steps, 'step')} of {config.batch_size}"
    )
    count = jax.process_count()
    processes = f" in {count} processes" if count > 1 else ""
    print(f"on {mesh.size} x {kind}{processes}; writing to {run.folder}")
    print(f"estimated training time: {duration(flops / (0.5 * matmul_rate()))}", flush=True)


def step_flops(config, model, points):
    """Floating-point operations of an outer step on images of `points` pixels: those of the matrix
    products that its derivatives need, no more. inner_points and outer_points are of each cell."""

    def seen(count):
        return points if count is None else count * (config.cells if config.by_cells else 1)

    products = 1 + config.cg_iterations if config.update == "gauss_newton" else 1
    steps = config.inner_steps if config.training_steps is None else config.training_steps
    flops = 3 * forward_flops(model, seen(config.outer_points))
    flops += 5 * steps * products * forward_flops(model, seen(config.inner_points))
    return config.batch_size * flops / (2 if config.first_order else 1)


def forward_flops(model, points):
    """Multiply-adds of one forward pass of one image, twice their number."""
    width, hidden, taps, latent_map = model.width, model.depth - 2, 1, 0
    inputs, outputs = model.inputs, model.channels
    if model.decoder == "refined_pca":
        inputs, taps, latent_map = model.channels, 9, 2 * model.latent_dim * model.channels
    if model.modality == "scenes":  # of the points on rays
        points, inputs, outputs = points * model.ray_points, 3, 4
    layers = inputs * width + hidden * width**2 + width * outputs
    return 2 * points * (taps * layers + latent_map)


@cache
def matmul_rate():
    """This machine's float32 matrix product rate over all local devices, in FLOP/s (a glance)."""
    size = 1024
    square = jax.numpy.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    product(square).block_until_ready()
    times = timeit.repeat(lambda: product(square).block_until_ready(), number=1, repeat=3)
    share = 1 if jax.default_backend() == "cpu" else jax.device_count()
    return share * 2 * size**3 / min(times)
