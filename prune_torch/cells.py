"""One cell of the sweep: a method, a density and a seed; and the dense network before it."""

import copy
import hashlib
import json
import time

import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from common.runs import Progress, atomic, read_json, write_json
from prune_torch import density, finetune, vit
from prune_torch.methods import METHODS
from prune_torch.methods.base import Cell

DENSE_SETTINGS = (  # what decides the dense network
    *("model", "model_args", "weights", "pretrained", "dataset", "images", "val_fraction"),
    *("batch_size", "augment", "amp", "dense_steps", "dense_rate", "decay", "seed"),
)


class Bench:
    """What all cells of a sweep share in one process: task, dense network, teacher."""

    def __init__(self, config, data_set, device):
        self.config, self.device = config, device
        self.model = vit.build(config, data_set.num_classes).to(device)
        pixels = vit.Pixels(self.model, device)
        self.task = finetune.Task(config, data_set, pixels, device)

    def dense(self, folder):
        """Train the dense network, or read it: `folder` keeps it under the hash of its settings."""
        settings = {key: str(getattr(self.config, key)) for key in DENSE_SETTINGS}
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        path = folder / f"dense-{key}.safetensors"
        if not path.exists():
            config = self.config
            optimizer = finetune.optimizer_for(self.model, config.dense_rate, config.decay)
            with Progress(config.dense_steps, "step") as progress:
                finetune.run(
                    *(self.task, self.model, optimizer, config.dense_steps),
                    seed=config.seed,
                    progress=progress,
                )
            with atomic(path) as temporary:
                save_file(self.model.state_dict(), temporary)
            found = {
                split: self.task.evaluate(self.model, getattr(self.task, split))
                for split in ("val", "test")
            }
            write_json(path.with_suffix(".json"), {**settings, **found})
        self.model.load_state_dict(load_file(path, device=str(self.device)))
        return read_json(path.with_suffix(".json"))

    def gigaflops(self):
        """Of one image through the dense network, two for each multiply-add."""
        size = (1, self.task.pixels.channels, self.task.pixels.side, self.task.pixels.side)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.model.eval()(torch.zeros(size, device=self.device))
        return counter.get_total_flops() / 1e9


def _search(method, path):
    """The method's own training steps; one that serves all densities is kept in the file `path`."""
    cell = method.cell
    if method.one_for_all and path.exists():
        kept = torch.load(path, map_location=cell.task.device, weights_only=True)
        cell.model.load_state_dict(kept["model"])
        method.resume(kept["found"])
        return
    optimizer = method.optimizer()
    method.start(optimizer)
    finetune.run(
        *(cell.task, cell.model, optimizer, cell.steps),
        seed=cell.seed,
        after=method.after_step,
        loss=method.loss,
    )
    method.finish()
    if method.one_for_all:
        with atomic(path) as temporary:
            torch.save({"model": cell.model.state_dict(), "found": method.found()}, temporary)


def run_cell(bench, folder, name, level, seed):
    """Prune, recover, evaluate; returns the row (dict) and writes the network to `folder`."""
    config, task = bench.config, bench.task
    began = time.monotonic()
    method_class = METHODS[name]
    model = copy.deepcopy(bench.model)
    parameters = density.prunable(model, config.prunable)
    kept = density.budget(model, level, config.prunable)
    search = round(method_class.share * config.steps)
    cell = Cell(
        task=task,
        model=model,
        parameters=parameters,
        count=kept,
        steps=search,
        rate=config.rate,
        decay=config.decay,
        seed=seed,
    )
    method = method_class(cell)
    if search:
        _search(method, folder / f"{name}-search-s{seed}.pt")
    masks = method.masks(kept)
    named = dict(model.named_parameters())
    optimizer = finetune.optimizer_for(model, config.rate, config.decay)
    density.hold(optimizer, named, masks)
    teacher = bench.model.eval() if config.distil else None

    def loss(network, batch):
        return task.loss(network, batch, teacher, config.distil)

    finetune.run(
        *(task, model, optimizer, config.steps - search), seed=seed, first=search, loss=loss
    )
    found = density.count(model, config.prunable)
    test = task.evaluate(model, task.test)
    path = folder / f"{name}-d{level:g}-s{seed}.safetensors"
    with atomic(path) as temporary:
        save_file(model.state_dict(), temporary)
    return {
        "method": name,
        "density": level,
        "seed": seed,
        **test,
        "val_top1": task.evaluate(model, task.val)["top1"] if len(task.val) else None,
        **found,
        "exact": found["nonzero"] == round(level * found["total"]),
        "steps": config.steps,
        "extra_passes": method.passes,
        "seconds": round(time.monotonic() - began, 2),
        "checkpoint": path.name,
        "layers": {n: float(m.float().mean()) for n, m in masks.items() if n in parameters},
    }
