"""What does the whole sweep of a ViT-B/16 from ImageNet-21k take on this machine?

    python -m experiments.prune_in21k        2 minutes on a GPU, 20 on 2 CPU cores; not yet run

It runs nothing of the sweep: it measures a training step and an evaluation of the preset's network
(224 pixels, random weights cost the same) and multiplies. Then it prints the command, with
--weights for machines without the hub, and what that needs. Result: prune_in21k.json.
"""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo, Count
from prune_torch import sweep
from prune_torch.methods import METHODS
from prune_torch.protocol import finetune, workers

COMMAND = "python -m prune_torch.sweep cifar10-in21k --weights ViT-B_16.npz --no-pretrained"


@dataclass(frozen=True, kw_only=True)
class Config(checks.Settings):
    """What is measured."""

    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""
    rounds: Count = 5
    """Steps that are timed; the first does not count."""
    model: str = sweep.PRESETS["cifar10-in21k"].model
    """timm's name."""
    images: AtLeastTwo = 512
    """Images of each split that are read; an evaluation is timed on those of test."""
    results: Path = runner.RESULTS
    """Folder for the numbers."""


def main(config):
    """Measure, multiply, print; returns what the JSON holds."""
    preset = sweep.PRESETS["cifar10-in21k"]
    settings = dataclasses.replace(
        preset,
        model=config.model,
        pretrained=False,
        images=config.images,
        device=config.device,
        batch_size=min(preset.batch_size, config.images // 2),
    )
    bench = workers.make_bench(settings)
    step, look = rates(bench, config.rounds)
    hours = {
        "cell": cell_seconds(preset, step, look) / 3600,
        "dense": (preset.dense_steps * step + 15_000 * look) / 3600,
    }
    cells = sum(1 if m.chooses else len(preset.densities) for m in METHODS.values())
    hours["sweep"] = hours["dense"] + cells * hours["cell"]
    cuda = bench.device.type == "cuda"
    facts = {
        "sweep": COMMAND,
        "model": config.model,
        "device": str(bench.device),
        "seconds_a_step": step,
        "seconds_an_image_of_evaluation": look,
        "batch": settings.batch_size,
        "cells": cells,
        "hours": hours,
        "gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }
    print(f"{COMMAND}\n{cells} cells of one seed: {hours['sweep']:.0f} hours here, one at a time")
    return runner.write(config.results / "prune_in21k.json", "prune_in21k", {"measured": facts})


def rates(bench, rounds):
    """Median seconds of a training step, seconds of evaluating an image."""
    optimizer, times = finetune.optimizer_for(bench.model, 1e-5, 0.01), []
    began = time.perf_counter()

    def note(step):
        nonlocal began
        if bench.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - began)
        began = time.perf_counter()

    finetune.run(bench.task, bench.model, optimizer, rounds + 1, seed=0, after=note)
    began = time.perf_counter()
    bench.task.evaluate(bench.model, bench.task.test)
    look = (time.perf_counter() - began) / len(bench.task.test)
    return sorted(times[1:])[len(times[1:]) // 2], look


def cell_seconds(preset, step, look, train=50_000, test=10_000):
    """Of one cell: its steps, two evaluations of test, one of validation, each as an image."""
    validation = math.ceil(preset.val_fraction * train)
    return preset.steps * step + (2 * test + validation) * look


if __name__ == "__main__":
    cli.run(main, Config)
