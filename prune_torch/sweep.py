"""Prune a Vision Transformer at nine densities with every method, under one protocol.

Density: nonzero parameters / all parameters. Every method begins with the same dense network and
has the same number of training steps, batches and seeds. Results: results.csv, one row a cell, and
pictures. A stopped sweep goes on where it was, cell by cell.
"""

import csv
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch

from common import cli, datasets
from common.errors import UserError
from common.runs import Progress, Run, atomic, read_json, write_json
from prune_torch import density, figures
from prune_torch.cells import Bench, run_cell
from prune_torch.methods import METHODS

NOT_IDENTITY = (
    *("data_dir", "download", "out", "name", "device", "jobs"),
    *("methods", "densities", "seeds"),  # a sweep may be widened
)
COLUMNS = (
    *("method", "density", "seed", "top1", "top5", "loss", "val_top1", "nonzero", "total"),
    *("density_all", "density_blocks", "exact", "steps", "extra_passes", "seconds", "checkpoint"),
)


@dataclass(frozen=True)
class Config:
    """The network, the data, the protocol, and which cells."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Methods, by name."""
    densities: tuple[float, ...] = tuple(round(0.1 * i, 1) for i in range(1, 10))
    """Nonzero parameters / all parameters."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of batches and draws; the dense network is the same for all."""

    model: str = "vit_tiny_patch16_224"
    """timm's name of a Vision Transformer."""
    model_args: dict = field(default_factory=dict)
    """Arguments of timm.create_model besides the name and the number of classes."""
    pretrained: bool = False
    """Take timm's trained weights from the hub."""
    weights: Path | None = None
    """File of weights: .safetensors, .pth or Google's .npz."""

    dataset: str = "cifar10"
    """Data set: digits, mnist, cifar10, or any prepared TFDS image set in --data-dir."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    download: bool = False
    """Let torchvision download the data set if it is missing."""
    images: int | None = None
    """Use only this many images of each split; none uses all."""
    val_fraction: float = 0.1
    """Share of train that is held out for validation."""
    augment: bool = False
    """Random crops with 4 pixels of padding, and mirror images."""

    batch_size: int = 64
    """Images per step."""
    dense_steps: int = 400
    """Training steps of the dense network."""
    dense_rate: float = 1e-3
    """Its learning rate (AdamW, warm-up, cosine)."""
    steps: int = 120
    """Training steps of each cell, search and recovery together."""
    rate: float = 5e-4
    """Learning rate of each cell."""
    decay: float = 0.01
    """Weight decay of matrices."""
    distil: float = 0.0
    """Weight of distillation from the dense network in the recovery; 0 uses labels alone."""
    prunable: Literal["blocks", "matrices"] = "blocks"
    """What may become zero: the matrices of the blocks, or also patch embedding and head."""
    amp: bool = False
    """Compute in bfloat16 where PyTorch's autocast does."""

    seed: int = 0
    """Seed of the dense network."""
    jobs: int = 1
    """Cells side by side."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""
    name: str | None = None
    """Suffix of the run folder."""
    out: Path | None = None
    """Run folder; default runs/prune-PRESET[-NAME]."""

    def __post_init__(self):
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}; methods: {', '.join(METHODS)}")
        wrong = [level for level in self.densities if not 0 < level <= 1]
        if wrong:
            raise ValueError(f"--densities must lie in (0, 1], got {wrong[0]}")
        for name in ("batch_size", "dense_steps", "steps", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")


SMALL = {"img_size": 32, "patch_size": 4}
PRESETS = {
    "digits": Config(
        dataset="digits",
        dense_steps=1500,
        dense_rate=3e-3,
        steps=100,
        jobs=2,
        model_args={
            **{"img_size": 8, "patch_size": 2, "in_chans": 1},
            **{"embed_dim": 48, "depth": 4, "num_heads": 4},
        },
    ),
    "cifar10-small": Config(
        model_args={**SMALL, "embed_dim": 64, "depth": 6, "num_heads": 4},
        augment=True,
        batch_size=128,
        dense_steps=6000,
        steps=1000,
    ),
    "cifar10-tiny": Config(
        model_args=SMALL, augment=True, batch_size=128, dense_steps=40_000, steps=4000, amp=True
    ),
    "cifar10-in21k": Config(
        model="vit_base_patch16_224.augreg_in21k",
        pretrained=True,
        augment=True,
        dense_steps=2000,
        dense_rate=3e-5,
        steps=2000,
        rate=3e-5,
        amp=True,
    ),
}


def main(config, preset):
    """Run what is missing, then write the table and the pictures; returns the rows."""
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    bench = Bench(config, _data(config), device)
    _refuse_unreachable(config, bench.model)
    suffix = f"-{config.name}" if config.name else ""
    identity = {key: value for key, value in asdict(config).items() if key not in NOT_IDENTITY}
    identity["weights"] = None if config.weights is None else str(config.weights)
    run = Run(config.out or Path("runs") / f"prune-{preset}{suffix}", identity)
    cells = [
        (method, level, seed)
        for method in config.methods
        for level in config.densities
        for seed in config.seeds
    ]
    missing = [cell for cell in cells if not _row_path(run, cell).exists()]
    print(f"{len(cells)} cells, {len(missing)} to run; writing to {run.folder}", flush=True)
    dense = bench.dense(run.folder)
    print(f"dense network: test top-1 {100 * dense['test']['top1']:.2f} %", flush=True)
    with Progress(len(cells), "cell", start=len(cells) - len(missing)) as progress:
        for cell, row in _rows(config, bench, run, missing):
            write_json(_row_path(run, cell), row)
            progress.advance(1, top1=f"{cell[0]} {cell[1]:g}: {100 * row['top1']:.2f} %")
    rows = [read_json(_row_path(run, cell)) for cell in cells]
    with atomic(run.path("results.csv")) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    figures.accuracy(run.path("figures", "accuracy.png"), rows, dense["test"])
    figures.layers(run.path("figures", "layers.png"), rows)
    run.write_summary(dense=dense, gigaflops_dense=bench.gigaflops(), cells=len(rows))
    show(rows, dense["test"], run)
    return rows


def show(rows, dense, run):
    """Print top-1 at every density, mean over seeds."""
    levels = sorted({row["density"] for row in rows})
    print("\ntop-1 in %       " + "".join(f"{level:8g}" for level in levels))
    for method in dict.fromkeys(row["method"] for row in rows):
        means = figures.means([r for r in rows if r["method"] == method], "top1")
        print(f"{method:17s}" + "".join(f"{100 * means[level][0]:8.2f}" for level in levels))
    print(f"dense: {100 * dense['top1']:.2f}")
    missed = sorted({row["method"] for row in rows if not row["exact"]})
    if missed:
        print(f"below their level, as whole groups go (results.csv): {', '.join(missed)}")
    print(f"\n{run.folder}: results.csv, figures/, summary.json, one network for each cell")


def _data(config):
    return datasets.load(
        config.dataset,
        config.data_dir,
        download=config.download,
        images=config.images,
        val_fraction=config.val_fraction,
    )


def _refuse_unreachable(config, model):
    try:
        for level in config.densities:
            density.budget(model, level, config.prunable)
    except ValueError as error:
        raise UserError(str(error)) from None


def _row_path(run, cell):
    method, level, seed = cell
    return run.path("cells", f"{method}-d{level:g}-s{seed}.json")


def _rows(config, bench, run, cells):
    """Each cell with its row, as they come; side by side in processes of their own if asked."""
    folder = run.path("cells")
    if config.jobs == 1 or len(cells) < 2:
        for cell in cells:
            yield cell, run_cell(bench, folder, *cell)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // config.jobs)
    with ProcessPoolExecutor(
        min(config.jobs, len(cells)),
        get_context("spawn"),
        _start_worker,
        (config, run.folder, threads),
    ) as pool:
        yield from zip(
            cells, pool.map(_run_in_worker, [(folder, cell) for cell in cells]), strict=True
        )


def _start_worker(config, folder, threads):
    global _bench
    torch.set_num_threads(threads)
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    _bench = Bench(config, _data(config), device)
    _bench.dense(folder)


def _run_in_worker(job):
    folder, cell = job
    return run_cell(_bench, folder, *cell)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
