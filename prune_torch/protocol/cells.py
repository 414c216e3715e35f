"""One cell of the sweep: a method, a density and a seed; and the dense network before it."""

import copy
import hashlib
import json
import math
import shutil
import time
from dataclasses import replace
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from scipy.stats import binomtest
from torch.nn import functional as F

from groundfloor import seeds
from groundfloor.errors import UserError
from groundfloor.pytorch import checkpoints, precision
from groundfloor.runs import Progress, atomic, content_hash, read_dict, write_json
from optim_torch.dessilbi import structure
from prune_torch import compact, density, pack
from prune_torch.methods import METHODS
from prune_torch.methods.base import Cell
from prune_torch.network import factored, vit
from prune_torch.protocol import finetune

LATENCY_IMAGES = 16  # in a batch
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter

DENSE_SETTINGS = (  # what decides the dense network
    "model",
    "model_args",
    "weights",
    "pretrained",
    "dataset",
    "images",
    "val_fraction",
    "batch_size",
    "augment",
    "precision",
    "dense_steps",
    "dense_rate",
    "decay",
    "seed",
)
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
        made_from = _digest({**settings, "dense": bench.made_from})
        return f"{self.method}-search-s{self.seed}-{made_from}"


class Bench:
    """What all cells of a sweep share in one process: task, dense network, teacher.

    made_from: name of the dense network's file, which tells what it was made from.
    """

    def __init__(self, config, data_set, device, dense=None):
        """dense: file of a dense network that was trained before; none builds one from config."""
        self.config, self.device, self.data_set = config, device, data_set
        self.classes = data_set.num_classes
        given = config
        if dense:  # then all weights come from there
            given = replace(config, pretrained=False, weights=None, dense_steps=1)
        self.model = vit.build(given, self.classes).to(device)
        self.model.set_grad_checkpointing(config.checkpointing)
        pixels = vit.Pixels(self.model, device)
        self.task = finetune.Task(config, data_set, pixels, device)
        self.made_from = "untrained"
        if dense:
            self._take(dense)

    def choose_precision(self, path):
        """Replace the config's auto by what it means on this device; returns the config. path: a
        file that keeps the choice."""
        task, model = self.task, copy.deepcopy(self.model).train()
        inputs, labels = task.batch(0, 0)

        def loss_of(count):
            return F.cross_entropy(model(inputs[:count]), labels[:count])

        name = precision.chosen(self.config.precision, self.device, loss_of, len(labels), path)
        self.config = task.config = replace(self.config, precision=name)
        return self.config

    def dense(self, folder):
        """Train the dense network, or read it: `folder` keeps it under the hash of its settings.

        Returns its file and a dict: its settings, and its top1, top5 and loss on "val" and "test".
        UserError if one of the two is damaged.
        """
        settings = {key: str(getattr(self.config, key)) for key in DENSE_SETTINGS}
        settings["data_fingerprint"] = self.data_set.fingerprint
        if self.config.weights is not None:
            settings["weights"] = content_hash(self.config.weights)
        path = folder / f"dense-{_digest(settings)}.safetensors"
        if not path.exists():
            self._train(path, settings)
        facts = read_dict(path.with_suffix(".json"), "dense network", "val", "test")
        if facts.get("content") not in (None, content_hash(path)):
            raise UserError(f"{path} is damaged; move it away to have it trained again")
        self._take(path)
        return path, facts

    def _train(self, path, settings):
        config, kept = self.config, path.with_suffix("")
        optimizer = finetune.optimizer_for(self.model, config.dense_rate, config.decay)
        with Progress(config.dense_steps, "step") as progress:
            finetune.run(
                self.task,
                self.model,
                optimizer,
                config.dense_steps,
                seed=config.seed,
                progress=progress,
                keep=kept,
            )
        facts = {
            **settings,
            "val": self.task.evaluate(self.model, self.task.val),
            "test": self.task.evaluate(self.model, self.task.test),
        }
        with atomic(path) as temporary:  # last: it says that all is there
            compact.save(self.model, temporary)
            facts["content"] = content_hash(temporary)
            write_json(path.with_suffix(".json"), facts)
        shutil.rmtree(kept, ignore_errors=True)

    def _take(self, path):
        self.model.load_state_dict(load_file(path, device=str(self.device)))
        self.made_from = path.stem


def _digest(settings):
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def _search(method, folder):
    """The method's own training steps; one that serves all densities is kept in `folder`.

    Returns AdamW's moments of every parameter that was trained: dict of name -> dict.
    """
    cell = method.cell
    if method.one_for_all and (kept := checkpoints.newest(folder, cell.task.device)):
        cell.model.load_state_dict(kept["model"])
        method.resume(kept["found"])
        return kept["moments"]
    optimizer = method.optimizer()
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
    moments = _search(method, folder / key.search(bench)) if search else {}
    masks = method.masks(cell.count)
    if method.debias:
        model.load_state_dict(bench.model.state_dict())
    optimizer = finetune.optimizer_for(model, config.rate, config.decay)
    named = dict(model.named_parameters())
    for name, state in moments.items():
        optimizer.state[named[name]] = {**state, "step": state["step"].cpu()}  # as AdamW has it
    structure.hold(optimizer, named, masks)
    at_once = task.evaluate(model, task.test)
    teacher = bench.model.eval() if key.distil else None

    def loss(network, batch):
        return task.loss(network, batch, teacher, key.distil)

    finetune.run(
        task, model, optimizer, config.steps - search, seed=cell.seed, first=search, loss=loss
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
        times = compact.latency({"dense": bench.model, "small": small}, inputs, rounds=5)
        measured = {
            "latency_ms": times["small"]["ms"],
            "latency_ratio": times["small"]["ratio"],
            "heads": _shares_kept(compact.dead_heads(model)),
            "neurons": _shares_kept(compact.dead_neurons(model)),
        }
    return {
        "gigaflops": compact.flops(small) / 1e9,
        "megabytes": path.stat().st_size / 1e6,
        **measured,
        "checkpoint": path.name,
    }


def _shares_kept(dead):
    return [float((~flags).float().mean()) for flags in dead]
