"""Benchmarks: how fast is our code beside a plain version of the same maths, in one process?

Each measurement alternates the two, round by round, and reports medians and the median ratio. Below
each row of the table stands what experiments/results has of it, with its machine and date.
"""

import json
import pickle
import statistics
import tempfile
import time
import timeit
from dataclasses import dataclass
from operator import truediv
from pathlib import Path

from experiments import runner, streams
from groundfloor import checks, cli
from groundfloor.checks import Count, Positive
from groundfloor.machine import environment
from groundfloor.runs import atomic, read_rows


@dataclass(frozen=True)
class Config(checks.Settings):
    """How long to measure, and how to report."""

    json: bool = False
    """One JSON object a line instead of a table."""
    rounds: Count = 5
    """Times that ours and the reference take turns."""
    seconds: Positive = 2.0
    """Time for each turn."""
    results: Path | None = None
    """Folder for bench_NAME.jsonl, one JSON object a line; default: nothing is kept."""


@dataclass(frozen=True)
class Shape:
    """A modulated SIREN and the batch that it is trained on."""

    width: int
    depth: int
    latent_dim: int
    side: int
    channels: int
    batch: int
    decoder: str = "siren"
    inputs: int = 2
    modality: str = "images"


FUNCTA_SHAPES = (
    Shape(64, 5, 64, 8, 1, 64),
    Shape(128, 6, 128, 28, 1, 16),
    Shape(256, 10, 256, 32, 3, 8),
)
CHECKED_STEPS = 3


def functa(config):
    """One row a shape: our outer step against DeepMind's way (experiments/haiku_functa.py)."""
    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    return (functa_row(shape, config) for shape in FUNCTA_SHAPES)


def functa_row(shape, config):
    """Images per second of both on one shape, and the share of the matrix-product rate of ours; how
    many times as fast ours is with products of bfloat16 operands; and what of our step's time its
    products and its sines take where each is alone (`parts`)."""
    import jax
    import numpy as np

    from functa_jax.training import loop

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (shape.batch, shape.side**2, shape.channels)).astype(np.uint8)
    ours, reference = _ours(shape, images), plain_step(shape, images)
    rounded = _ours(shape, images, "bfloat16")
    # Every step sees the same batch. We log before a step, the reference after it.
    psnr = [turn(CHECKED_STEPS) for turn in (ours, reference)]
    difference = float(np.abs(psnr[0][1:] - psnr[1][:-1]).max())

    times = {ours: [], reference: [], rounded: []}
    steps = {}
    for turn in times:
        began = time.perf_counter()
        turn(CHECKED_STEPS)
        each = (time.perf_counter() - began) / CHECKED_STEPS
        steps[turn] = max(1, round(config.seconds / each / CHECKED_STEPS)) * CHECKED_STEPS
    matmul = []
    for _ in range(config.rounds):
        loop.matmul_rate.cache_clear()  # measured anew, beside the others
        matmul.append(loop.matmul_rate())
        for turn, measured in times.items():
            began = time.perf_counter()
            turn(steps[turn])
            measured.append((time.perf_counter() - began) / steps[turn])
    our_rate, their_rate, _ = (
        shape.batch / statistics.median(measured) for measured in times.values()
    )
    flops = 18 * loop.forward_flops(shape, shape.side**2)
    products, sines = parts(shape)
    return {
        "shape": f"W{shape.width} D{shape.depth} L{shape.latent_dim} "
        f"{shape.side}x{shape.side}x{shape.channels} B{shape.batch}",
        "ours_images_per_s": round(our_rate, 1),
        "reference_images_per_s": round(their_rate, 1),
        "ratio": _ratio(times[reference], times[ours]),
        "bfloat16_ratio": _ratio(times[reference], times[rounded]),
        "bfloat16_gain": _ratio(times[ours], times[rounded]),
        "matmul_share": round(our_rate * flops / statistics.median(matmul), 3),
        "matmul_gflops": round(statistics.median(matmul) / 1e9, 1),
        "products_share": round(products * our_rate / shape.batch, 3),
        "sines_share": round(sines * our_rate / shape.batch, 3),
        "psnr_difference_db": round(difference, 6),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}",
    }


def parts(shape):
    """Seconds of the matrix products and of the sines of an outer step, each alone, on all devices
    at once: 11 products of a layer with its weights (of 4 forward passes, and of their derivatives
    in what goes in), 7 that give derivatives in its weights, and 4 times sine and cosine."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import PartitionSpec

    from functa_jax.model.sine import sincos
    from functa_jax.training import devices, outer_loop

    mesh = devices.data_mesh(shape.batch)
    share, points, width = shape.batch // mesh.size, shape.side**2, shape.width
    at_once = outer_loop.gradients_at_once(points, share)
    random = np.random.default_rng(0)
    by_row = PartitionSpec(devices.AXIS)
    rows, turned = devices.put(
        [
            np.float32(np.linalg.qr(random.normal(size=(mesh.size * at_once * points, width)))[0]),
            np.tile(
                np.float32(np.linalg.qr(random.normal(size=(width, width)))[0]), (mesh.size, 1)
            ),
        ],
        mesh,
        by_row,
    )

    def seconds(change, start, other, repeats=20):
        """Of change(start, other) on each device, which keeps start's shape and makes it no
        larger."""

        def many(start, other):
            return jax.lax.fori_loop(0, repeats, lambda _, x: change(x, other), start)

        run = jax.jit(jax.shard_map(many, mesh=mesh, in_specs=(by_row,) * 2, out_specs=by_row))
        run(start, other).block_until_ready()
        times = timeit.repeat(lambda: run(start, other).block_until_ready(), number=1, repeat=3)
        return min(times) / repeats

    forward = seconds(lambda rows, turned: rows @ turned, rows, turned)
    both = seconds(lambda turned, rows: rows.T @ (rows @ turned), turned, rows)
    sine = seconds(lambda rows, _: jnp.add(*sincos(rows)), rows, turned)
    groups = share / at_once
    products = groups * (shape.depth - 2) * (11 * forward + 7 * max(both - forward, 0))
    return products, groups * 4 * (shape.depth - 1) * sine


def _model(shape):
    from functa_jax.model.config import ModelConfig

    return ModelConfig(shape.channels, shape.width, shape.depth, shape.latent_dim)


def _ratio(times, others):
    """The median over rounds."""
    return round(statistics.median(map(truediv, times, others)), 2)


def _ours(shape, images, precision="float32"):
    """turn(steps) -> PSNR (steps,): the steps of `python -m functa_jax.meta_train --precision`."""
    import jax
    import numpy as np
    from jax.sharding import PartitionSpec

    from functa_jax.model import siren
    from functa_jax.training import devices, outer_loop
    from functa_jax.training.config import OuterConfig

    model = _model(shape)
    outer = OuterConfig(
        steps=1,
        batch_size=shape.batch,
        outer_rate=1e-4,
        schedule="constant",
        warmup=0,
        clip_norm=None,
        precision=precision,
    )
    mesh = devices.data_mesh(shape.batch)
    train = outer_loop.make_train(model, outer, mesh)
    state = devices.put(jax.device_get(outer_loop.init_state(model, outer)), mesh)
    positions = np.arange(shape.batch, dtype=np.int32)
    fixed = *devices.put((siren.coordinate_grid(shape.side), images), mesh), None
    rows = np.tile(positions, (CHECKED_STEPS, 1))
    rows = devices.put(rows, mesh, PartitionSpec(None, devices.AXIS))
    positions = devices.put(positions, mesh, PartitionSpec(devices.AXIS))

    def turn(steps):
        nonlocal state
        psnr = []
        for _ in range(steps // CHECKED_STEPS):
            state, metrics = train(state, *fixed, rows, positions)
            psnr.append(devices.fetch(metrics)["psnr"])
        return np.concatenate(psnr)

    return turn


def plain_step(shape, images):
    """turn(steps) -> PSNR (steps,), each after its step, from the weights that our own begin with;
    images: (B, side^2, channels), uint8."""
    import jax
    import numpy as np
    import optax

    from experiments import haiku_functa
    from functa_jax.deepmind import save_weights
    from functa_jax.functa import Functa
    from functa_jax.model import siren

    model = _model(shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npz"
        functa = Functa(model, jax.device_get(siren.init(model, 0)), (shape.side, shape.side))
        save_weights(functa, path)
        contents = pickle.loads(path.read_bytes())
    optimizer = optax.adam(1e-4)
    step = haiku_functa.make_step(contents["config"]["model"], optimizer)
    params, opt_state = contents["params"], optimizer.init(contents["params"])
    coords = np.broadcast_to(
        siren.coordinate_grid(shape.side), (shape.batch, shape.side**2, 2)
    ).copy()

    def turn(steps):
        nonlocal params, opt_state
        psnr = []
        for _ in range(steps):
            batch = images.astype(np.float32) / 255
            params, opt_state, decibels = step(params, opt_state, coords, batch)
            psnr.append(decibels)
        return np.array(psnr)

    return turn


def dessilbi(config):
    """One row a network and base: a training step with DessiLBI against one with the base alone."""
    import torch

    torch.set_num_threads(1)
    for model, side, channels in (("lenet", 28, 1), ("resnet56", 32, 3)):
        for base in (torch.optim.SGD, torch.optim.AdamW):
            yield dessilbi_row(config, model, base, (128, channels, side, side))


def dessilbi_row(config, model, base, shape):
    """Milliseconds of the optimizers' steps alone and of a whole step with the base, and ratios of
    the optimizers' steps and, by these numbers, of whole ones."""
    import torch

    from optim_torch import DessiLBI
    from optim_torch.models import MODELS

    options = {"momentum": 0.9} if base is torch.optim.SGD else {}
    batch, channels, side, _ = shape
    inputs, labels = torch.rand(shape), torch.arange(batch) % 10
    networks = [MODELS[model]((side, side, channels), 10) for _ in range(2)]
    optimizers = [
        DessiLBI(networks[0].named_parameters(), 1e-3, base=base, lr_gamma=0.1, **options),
        base(networks[1].parameters(), lr=1e-3, **options),
    ]
    whole, alone = [], [[], []]
    for turn in range(config.rounds + 1):  # the first makes the state
        for side_of, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            began = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs), labels).backward()
            optimizer.step()
            if turn and side_of == 1:
                whole.append(time.perf_counter() - began)
            count = max(1, round(config.seconds / 0.02)) if turn else 1
            began = time.perf_counter()
            for _ in range(count):
                optimizer.step()
            if turn:
                alone[side_of].append((time.perf_counter() - began) / count)
    ours, theirs = map(statistics.median, alone)
    return {
        "network": model,
        "base": base.__name__,
        "dessilbi_step_ms": round(1e3 * ours, 3),
        "base_step_ms": round(1e3 * theirs, 3),
        "optimizer_ratio": _ratio(*alone),
        "training_ms": round(1e3 * statistics.median(whole), 2),
        # One step of a network takes seconds, and its noise is more than optimizers differ by.
        "training_ratio": round(1 + (ours - theirs) / statistics.median(whole), 3),
    }


def what(row):
    """What a row measures: a shape of functa, a network and its base optimizer, if any."""
    return row.get("shape") or (row["network"], row.get("base"))


BENCHES = {"functa": functa, "streams": streams.rows, "dessilbi": dessilbi}


def main(config, name):
    """Measure and print row by row; returns the rows."""
    rows = []
    before = {what(row): row for row in read_rows(runner.RESULTS / f"bench_{name}.jsonl")}
    about = environment()
    for number, row in enumerate(BENCHES[name](config)):
        row |= {"machine": about["machine"], "date": about["finished"][:10]}
        rows.append(row)
        if config.json:
            print(json.dumps(row), flush=True)
            continue
        columns = {key: max(len(key), len(str(value))) for key, value in row.items()}
        if number == 0:
            print("  ".join(f"{key:>{width}}" for key, width in columns.items()))
        for shown in (row, before.get(what(row))):
            if shown:
                texts = (f"{shown.get(key, '')!s:>{width}}" for key, width in columns.items())
                print("  ".join(texts), flush=True)
    if config.results:
        with atomic(config.results / f"bench_{name}.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


if __name__ == "__main__":
    cli.run(main, Config, dict.fromkeys(BENCHES, Config()))
