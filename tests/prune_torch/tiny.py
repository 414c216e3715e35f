"""The smallest bench and cells, for tests of methods and of their protocol."""

import copy
from types import SimpleNamespace

import timm
import torch

from groundfloor.data import datasets
from prune_torch import density
from prune_torch.methods.base import Cell
from prune_torch.network import vit
from prune_torch.protocol import finetune

CONFIG = SimpleNamespace(
    batch_size=16,
    augment=False,
    precision="float32",
    steps=12,
    rate=1e-3,
    decay=0.05,
    prunable="blocks",
    seed=0,
)
SHAPE = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 12, "depth": 2, "num_heads": 3}


def bench(**shape):
    """What methods and cells see of a `bench.Bench`, with ten steps behind its dense network."""
    device = torch.device("cpu")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, **SHAPE, **shape)
    data_set = datasets.load("digits", images=64)
    task = finetune.Task(CONFIG, data_set, vit.Pixels(model, "cpu"), device)
    finetune.run(task, model, finetune.optimizer_for(model, 1e-2, 0.0), 10, seed=0)
    return SimpleNamespace(
        config=CONFIG, task=task, model=model, device=device, made_from="dense", held={}
    )


def cell(bench, level=0.5, *, seed=0, kind="blocks", model=None):
    """A cell of ten search steps on a copy of the dense network, or of `model`."""
    model = copy.deepcopy(model or bench.model)
    return Cell(
        task=bench.task,
        model=model,
        parameters=density.prunable(model, kind),
        count=density.budget(model, level, kind),
        steps=10,
        whole=20,
        rate=1e-3,
        decay=0.05,
        seed=seed,
    )
