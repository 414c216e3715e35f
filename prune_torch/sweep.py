"""Prune a Vision Transformer at nine densities with every method, under one protocol.

Density: nonzero parameters / all parameters. Every method begins with the same dense network and
has the same number of training steps, batches and seeds. Results: results.csv, one row a cell, and
pictures. A stopped sweep goes on where it was, cell by cell.
"""

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

from common import cli
from common.errors import UserError
from common.runs import Progress, Run, write_json
from prune_torch import density, report, workers
from prune_torch.cells import Key, method_of
from prune_torch.methods import METHODS

NOT_IDENTITY = (
    *("data_dir", "download", "out", "name", "device", "jobs", "ray", "checkpointing"),
    *("methods", "densities", "seeds", "distil", "merge"),  # a sweep may be widened
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
    model_args: dict[str, int] = field(default_factory=dict)
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
    distil: tuple[float, ...] = (0.0,)
    """Weights of distillation from the dense network in the recovery, each a sweep of its own; 0
    uses labels alone."""
    merge: tuple[int, ...] = (0, 1, 2, 4, 8)
    """Token merging, for the picture of accuracy against compute: tokens merged in each block of
    the dense network."""
    prunable: Literal["blocks", "matrices"] = "blocks"
    """What may become zero: the matrices of the blocks, or also patch embedding and head."""
    amp: bool = False
    """Compute in bfloat16 where PyTorch's autocast does."""
    checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more time."""

    seed: int = 0
    """Seed of the dense network."""
    jobs: int = 1
    """Cells side by side, each on its own GPU or share of the cores."""
    ray: str | None = None
    """Run the cells on a Ray cluster, one a GPU or core: its address, "auto", or "local"."""
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
        wrong = [weight for weight in self.distil if not 0 <= weight <= 1]
        if wrong:
            raise ValueError(f"--distil must lie in [0, 1], got {wrong[0]}")
        for name in ("methods", "densities", "seeds", "distil"):
            if not getattr(self, name):
                raise ValueError(f"--{name} needs at least one")
        if min(self.merge, default=0) < 0:
            raise ValueError("--merge must not be negative")
        for name in ("rate", "dense_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} must be above 0")
        if self.decay < 0:
            raise ValueError("--decay must not be negative")
        if not 0 <= self.val_fraction < 1:
            raise ValueError("--val-fraction must lie in [0, 1)")
        if self.images is not None and self.images < 1:
            raise ValueError("--images must be at least 1")
        if self.steps < 2:
            raise ValueError("--steps must be at least 2")
        for name in ("batch_size", "dense_steps", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")


SMALL = {"img_size": 32, "patch_size": 4}
PRESETS = {
    "digits": Config(
        dataset="digits",
        dense_steps=1500,
        dense_rate=3e-3,
        steps=40,
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
    """Run what is missing, then write table and pictures of all cells in the folder; returns the
    rows (dicts)."""
    bench = workers.make_bench(config)
    _refuse_unreachable(config, bench.model)
    keys, refused = _cells(config, bench)
    if not keys:
        raise UserError(f"nothing to run: {refused[0]}")
    run = Run.of(
        "prune", preset, config, bench.data_set, not_identity=NOT_IDENTITY, files=("weights",)
    )
    missing = [key for key in keys if not _row_path(run, key).exists()]
    print(f"{len(keys)} cells, {len(missing)} to run; writing to {run.folder}", flush=True)
    for line in refused:
        print(f"left out: {line}")
    dense = bench.dense(run.folder)
    print(f"dense network: test top-1 {100 * dense['test']['top1']:.2f} %", flush=True)
    failed = 0
    with Progress(len(keys), "cell", start=len(keys) - len(missing)) as progress:
        for key, row in workers.rows(config, bench, run, missing):
            if isinstance(row, UserError):
                failed += 1
                progress.say(f"{key.stem} failed: {row}")
                continue
            write_json(_row_path(run, key), row)
            progress.advance(1, top1=f"{key.stem}: {100 * row['top1']:.2f} %")
    rows = report.finished(run)
    if not rows:
        raise UserError("every cell failed; see above")
    report.write(config, bench, run, rows, dense, refused)
    if failed:
        raise UserError(f"{failed} cells failed, see above; the same command tries them again")
    return rows


def _cells(config, bench):
    """Keys of the cells, and a line for each method at densities that it cannot reach.

    Density by density, so that a stopped sweep has some with all methods.
    """
    keys, refused = [], {}
    for level, method in product((None, *config.densities), config.methods):
        if METHODS[method].chooses != (level is None):
            continue
        why = method_of(bench, Key(method, level, 0), bench.model).refusal()
        if why:
            refused.setdefault((method, why), []).append(level)
            continue
        keys += [Key(method, level, *rest) for rest in product(config.seeds, config.distil)]
    return keys, [
        f"{method}{''.join(f' {level:g}' for level in levels if level)} ({why})"
        for (method, why), levels in refused.items()
    ]


def _refuse_unreachable(config, model):
    try:
        for level in config.densities:
            density.budget(model, level, config.prunable)
    except ValueError as error:
        raise UserError(str(error)) from None


def _row_path(run, key):
    return run.path("cells", f"{key.stem}.json")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
