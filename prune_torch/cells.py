"""One cell of the sweep: a method, a density and a seed; and the dense network before it."""

import copy
import hashlib
import json
import math
import time
from dataclasses import replace
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest

from common import seeds
from common.runs import Progress, atomic, content_hash, read_json, write_json
from prune_torch import compact, density, finetune, pack, vit
from prune_torch.methods import METHODS
from prune_torch.methods.base import Cell

LATENCY_IMAGES = 16  # in a batch
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter

DENSE_SETTINGS = (  # what decides the dense network
    *("model", "model_args", "weights", "pretrained", "dataset", "images", "val_fraction"),
    *("batch_size", "augment", "amp", "dense_steps", "dense_rate", "decay", "seed"),
)


class Key(NamedTuple):
    """Which cell: density is None for a method that chooses its own; distil: weight of the
    dense network's outputs in the recovery."""

    method: str
    density: float | None
    seed: int
    distil: float = 0.0

    @property
    def stem(self):
        """Of its files."""
        level = "own" if self.density is None else f"d{self.density:g}"
        taught = f"-kd{self.distil:g}" if self.distil else ""
        return f"{self.method}-{level}-s{self.seed}{taught}"

    @property
    def search(self):
        """Name of the file with a search that serves all densities."""
        return f"{self.method}-search-s{self.seed}.pt"


class Bench:
    """What all cells of a sweep share in one process: task, dense network, teacher."""

    def __init__(self, config, data_set, device, bare=False):
        """bare: leave the given weights out, as `dense` will read its own."""
        self.config, self.device, self.data_set = config, device, data_set
        self.classes = data_set.num_classes
        given = replace(config, pretrained=False, weights=None) if bare else config
        self.model = vit.build(given, self.classes).to(device)
        self.model.set_grad_checkpointing(config.checkpointing)
        pixels = vit.Pixels(self.model, device)
        self.task = finetune.Task(config, data_set, pixels, device)

    def dense(self, folder):
        """Train the dense network, or read it: `folder` keeps it under the hash of its settings."""
        settings = {key: str(getattr(self.config, key)) for key in DENSE_SETTINGS}
        settings["data_fingerprint"] = self.data_set.fingerprint
        if self.config.weights is not None:
            settings["weights"] = content_hash(self.config.weights)
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        path = folder / f"dense-{key}.safetensors"
        if not path.exists():
            config, state = self.config, path.with_suffix(".pt")
            optimizer = finetune.optimizer_for(self.model, config.dense_rate, config.decay)
            with Progress(config.dense_steps, "step") as progress:
                finetune.run(
                    *(self.task, self.model, optimizer, config.dense_steps),
                    **{"seed": config.seed, "progress": progress, "keep": state},
                )
            found = {
                split: self.task.evaluate(self.model, getattr(self.task, split))
                for split in ("val", "test")
            }
            write_json(path.with_suffix(".json"), {**settings, **found})
            with atomic(path) as temporary:  # last: it says that all is there
                save_file(self.model.state_dict(), temporary)
            state.unlink(missing_ok=True)
        self.model.load_state_dict(load_file(path, device=str(self.device)))
        return read_json(path.with_suffix(".json"))


def _search(method, path):
    """The method's own training steps; one that serves all densities is kept in the file `path`.

    Returns AdamW's moments of every parameter that was trained: dict of name -> dict.
    """
    cell = method.cell
    if method.one_for_all and path.exists():
        kept = torch.load(path, map_location=cell.task.device, weights_only=True)
        cell.model.load_state_dict(kept["model"])
        method.resume(kept["found"])
        return kept["moments"]
    optimizer = method.optimizer()
    method.start(optimizer)
    finetune.run(
        *(cell.task, cell.model, optimizer, cell.steps),
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
        state = {"model": cell.model.state_dict(), "found": method.found(), "moments": moments}
        with atomic(path) as temporary:
            torch.save(state, temporary)
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
    cell, search = method.cell, method.cell.steps
    moments = _search(method, folder / key.search) if search else {}
    masks = method.masks(cell.count)
    if method.debias:
        model.load_state_dict(bench.model.state_dict())
    optimizer = finetune.optimizer_for(model, config.rate, config.decay)
    named = dict(model.named_parameters())
    for name, state in moments.items():
        optimizer.state[named[name]] = {**state, "step": state["step"].cpu()}  # as AdamW has it
    density.hold(optimizer, named, masks)
    teacher = bench.model.eval() if key.distil else None

    def loss(network, batch):
        return task.loss(network, batch, teacher, key.distil)

    finetune.run(
        *(task, model, optimizer, config.steps - search), seed=cell.seed, first=search, loss=loss
    )
    test = task.evaluate(model, task.test)
    found = density.count(model)
    exact = found["nonzero"] == round((key.density or 1.0) * found["total"])
    interval = binomtest(round(test["top1"] * len(task.test)), len(task.test)).proportion_ci(
        method="wilson"
    )
    return {
        **key._asdict(),
        **test,
        **{"top1_low": interval.low, "top1_high": interval.high},
        "val_top1": task.evaluate(model, task.val)["top1"] if len(task.val) else None,
        **found,
        **{"exact": exact, "note": "" if exact else method.inexact},
        "steps": config.steps,
        "extra_passes": method.passes,
        **_cost(bench, model, folder / f"{key.stem}.safetensors", method.structured),
        "layers": {n: float(masks[n].float().mean()) if n in masks else 1.0 for n in parameters},
        "seconds": round(time.monotonic() - began, 2),
    }


def _cost(bench, model, path, structured):
    """What the written network takes: without its dead parts if `structured`, packed otherwise.

    Zeros alone save no arithmetic in PyTorch; latency is of a batch, in turns with the dense
    network.
    """
    model.eval()
    if not structured:
        pack.save(model.state_dict(), path)
        latency, kept = {}, {}
        small = model
    else:
        small = compact.compact(model)
        compact.save(small, path)
        pixels = bench.task.pixels
        inputs = torch.randn(
            *(LATENCY_IMAGES, pixels.channels, pixels.side, pixels.side), device=bench.device
        )
        times = compact.latency({"dense": bench.model, "small": small}, inputs, rounds=5)
        latency = {"latency_ms": times["small"]["ms"], "latency_ratio": times["small"]["ratio"]}
        kept = {
            "heads": [float((~dead).float().mean()) for dead in compact.dead_heads(model)],
            "neurons": [float((~dead).float().mean()) for dead in compact.dead_neurons(model)],
        }
    return {
        "gigaflops": compact.flops(small) / 1e9,
        "megabytes": path.stat().st_size / 1e6,
        **latency,
        **kept,
        "checkpoint": path.name,
    }
