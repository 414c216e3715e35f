"""One cell of the sweep: a method, a density and a seed."""

import copy
import math
import time
from typing import NamedTuple

import torch
from scipy.stats import binomtest

from groundfloor import seeds
from groundfloor.pytorch import checkpoints, masking
from prune_torch import compact, costs, density, pack
from prune_torch.methods import METHODS
from prune_torch.methods.base import Cell
from prune_torch.network import factored
from prune_torch.protocol import finetune
from prune_torch.protocol.bench import digest

LATENCY_IMAGES = 16  # in a batch
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter

SEARCH_SETTINGS = ("prunable", "steps", "rate", "decay")  # what decides a search from there


class Key(NamedTuple):
    """Which cell: density is None for a method that chooses its own; distil: weight of the
    dense network's outputs in the recovery."""

    method: str
    density: float | None
    seed: int
    distil: float = 0.0

    @property
    def stem(self):
        """Name of the cell's files, without suffix."""
        level = "own" if self.density is None else f"d{self.density}"
        taught = f"-kd{self.distil}" if self.distil else ""
        return f"{self.method}-{level}-s{self.seed}{taught}"

    def search(self, bench):
        """Name of the folder of a search that serves all densities, with what decides it."""
        settings = {key: str(getattr(bench.config, key)) for key in SEARCH_SETTINGS}
        made_from = digest({**settings, "dense": bench.made_from})
        return f"{self.method}-search-s{self.seed}-{made_from}"


def search(method, folder):
    """The method's own training steps; one that serves all densities is kept in `folder`.

    Returns AdamW's moments of every parameter that was trained: dict of name -> dict.
    """
    cell = method.cell
    if method.one_for_all and (kept := checkpoints.newest(folder, cell.task.device)):
        cell.model.load_state_dict(kept["model"])
        method.resume(kept["found"])
        return kept["moments"]
    optimizer = method.optimizer()
    masking.hold(optimizer, cell.parameters, cell.held)
    method.start(optimizer)
    finetune.run(
        cell.task,
        cell.model,
        optimizer,
        cell.steps,
        seed=cell.seed,
        whole=cell.whole,
        after=method.after_step,
        loss=method.loss,
    )
    method.finish()
    moments = {
        name: {key: optimizer.state[parameter][key] for key in MOMENTS}
        for name, parameter in cell.model.named_parameters()
        if MOMENTS[0] in optimizer.state.get(parameter, ())
    }
    if method.one_for_all:
        state = {
            "model": cell.model.state_dict(),
            "found": method.search_result(),
            "moments": moments,
        }
        checkpoints.save(folder, cell.steps, state)
    return moments


def method_of(bench, key, model):
    """The method of a cell, on a copy of the dense network."""
    config, method = bench.config, METHODS[key.method]
    cell = Cell(
        task=bench.task,
        model=model,
        parameters=density.prunable(model, config.prunable),
        count=density.budget(model, key.density or 1.0, config.prunable),
        steps=math.ceil(method.share * config.steps),
        whole=config.steps,
        rate=config.rate,
        decay=config.decay,
        held=bench.held,
        seed=seeds.fold(key.seed, "cell"),  # not the batches of the dense network
    )
    return method(cell)


def run_cell(bench, folder, key):
    """Prune, recover, evaluate; returns the row (dict) and writes the network to `folder`.

    One warm-up and cosine lead through search and recovery, and AdamW's moments go over from one to
    the other: for all methods alike, also for those whose weights go back to the dense network's,
    and for every parameter that the search trained. Without moments Adam's first steps would have
    full length, and the warm-up is over by then.
    """
    config, task = bench.config, bench.task
    began = time.monotonic()
    model = copy.deepcopy(bench.model)
    method = method_of(bench, key, model)
    parameters = list(method.cell.parameters)
    cell, steps = method.cell, method.cell.steps
    moments = search(method, folder / key.search(bench)) if steps else {}
    masks = method.allowed(method.masks(cell.count))
    if method.debias:
        model.load_state_dict(bench.model.state_dict())
    optimizer = finetune.optimizer_for(model, config.rate, config.decay)
    named = dict(model.named_parameters())
    for name, state in moments.items():
        optimizer.state[named[name]] = {**state, "step": state["step"].cpu()}  # as AdamW has it
    masking.hold(optimizer, named, masks)
    at_once = task.evaluate(model, task.test)
    teacher = bench.model.eval() if key.distil else None

    def loss(network, batch):
        return task.loss(network, batch, teacher, key.distil)

    finetune.run(
        task, model, optimizer, config.steps - steps, seed=cell.seed, first=steps, loss=loss
    )
    parts = method.settle()
    test = task.evaluate(model, task.test)
    counts = density.count(model, parts)
    exact = counts["nonzero"] == round((key.density or 1.0) * counts["total"])
    hits = binomtest(round(test["top1"] * len(task.test)), len(task.test))
    interval = hits.proportion_ci(method="wilson")
    return {
        **key._asdict(),
        **test,
        "top1_before": at_once["top1"],
        "top5_before": at_once["top5"],
        "top1_low": interval.low,
        "top1_high": interval.high,
        "val_top1": task.evaluate(model, task.val)["top1"],
        **counts,
        "exact": exact,
        "note": "" if exact else method.inexact,
        "steps": config.steps,
        "extra_passes": method.passes,
        **_cost(bench, model, folder / f"{key.stem}.safetensors", method.structured, parts),
        "layers": {name: _share(name, masks, parts) for name in parameters},
        "seconds": round(time.monotonic() - began, 2),
    }


def _share(name, masks, parts):
    """Density of a layer."""
    if name in parts:
        return parts[name].nonzero() / parts[name].sparse.numel()
    return float(masks[name].float().mean()) if name in masks else 1.0


def _cost(bench, model, path, structured, parts):
    """Compute, file size and, for a structured method, latency and shares kept in each block.

    Writes the network, without its dead parts if `structured`, packed otherwise. Zeros alone save
    no arithmetic in PyTorch; latency is of a batch, in turns with the dense network.
    """
    model.eval()
    small, measured = model, {}
    if not structured:
        tensors, named = factored.separated(model.state_dict(), parts)
        pack.save(tensors, path, {**compact.description(model), **named})
    else:
        small = compact.compact(model)
        compact.save(small, path)
        pixels = bench.task.pixels
        shape = (LATENCY_IMAGES, pixels.channels, pixels.side, pixels.side)
        inputs = torch.randn(shape, device=bench.device)
        times = costs.latency({"dense": bench.model, "small": small}, inputs, rounds=5)
        measured = {
            "latency_ms": times["small"]["ms"],
            "latency_ratio": times["small"]["ratio"],
            "heads": _shares_kept(compact.dead_heads(model)),
            "neurons": _shares_kept(compact.dead_neurons(model)),
        }
    return {
        "gigaflops": costs.flops(small) / 1e9,
        "megabytes": path.stat().st_size / 1e6,
        **measured,
        "checkpoint": path.name,
    }


def _shares_kept(dead):
    return [float((~flags).float().mean()) for flags in dead]
