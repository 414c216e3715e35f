"""Does pruning a ViT-B fit into 8 GB, at 64 images a step and 224 pixels?

    python -m experiments.prune_memory             15 minutes on 2 CPU cores
    python -m experiments.prune_memory gpu         on a GPU; not yet run

A whole cell of the sweep (search, masks, recovery, count, file) of ViT-B/16 with one method, two
training steps, each method in a process of its own. On a CPU: its peak resident memory, PyTorch's
own code included; on a GPU: the most that PyTorch held. The weights are random, which costs the
same. Results: prune_memory_NAME.json.
"""

import dataclasses
import platform
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch

from experiments import runner
from groundfloor import checks, cli
from prune_torch import sweep
from prune_torch.methods import METHODS
from prune_torch.protocol import workers
from prune_torch.protocol.cells import Key, run_cell

LIMIT = 8e9  # bytes
IMAGES = 64  # of each split


@dataclass(frozen=True)
class Config:
    """What is measured, and where."""

    device: str = "cpu"
    """cpu or cuda."""
    methods: tuple[str, ...] = ("magnitude", "dessilbi", "movement")
    """One process each; movement holds the most: a score for each weight, with its moments."""
    checkpointing: bool = True
    """Activations computed twice instead of kept."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass; weights, masks and optimizer stay float32."""
    results: Path = runner.RESULTS
    """Folder for the table."""

    def __post_init__(self):
        unknown = [name for name in self.methods if name not in METHODS]
        checks.require(not unknown, "methods", unknown[:1], f"there are {', '.join(METHODS)}")
        checks.require(self.methods, "methods", "", "needs at least one")


PRESETS = {"cpu": Config(), "gpu": Config(device="cuda", precision="bfloat16")}


def main(config, name):
    """Measure each method and write the table; returns what the JSON holds."""
    table = []
    for method in config.methods:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            table.append(pool.submit(peak, config, method).result())
        row = table[-1]
        print(f"{method}: {row['bytes'] / 1e9:.2f} GB, {'fits' if row['fits'] else 'too much'}")
    settings = {
        "model": "vit_base_patch16_224",
        "images": "224 px",
        "batch": 64,
        "checkpointing": config.checkpointing,
        "precision": config.precision,
    }
    path = config.results / f"prune_memory_{name}.json"
    facts = {"settings": settings, "limit": LIMIT, "table": table}
    return runner.write(path, f"prune_memory {name}", facts)


def peak(config, method):
    """Peak memory of one cell, as a row."""
    settings = dataclasses.replace(
        sweep.PRESETS["cifar10-in21k"],
        pretrained=False,
        images=IMAGES,
        dense_steps=1,
        steps=2,
        device=config.device,
        precision=config.precision,
        checkpointing=config.checkpointing,
    )
    bench = workers.make_bench(settings)
    with tempfile.TemporaryDirectory() as folder:
        row = run_cell(bench, Path(folder), Key(method, 0.1, 0))
    if config.device == "cpu":
        unit = 1 if platform.system() == "Darwin" else 1024
        most = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    else:
        most = torch.cuda.max_memory_allocated()
    return {"method": method, "bytes": most, "fits": most < LIMIT, "seconds": row["seconds"]}


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
