"""Prune a Vision Transformer at nine densities with every method, under one protocol.

Density: nonzero parameters / all parameters. Every method begins with the same dense network and
has the same number of training steps, batches and seeds; passes of its own beside them, such as
those of a fit, are counted (extra_passes). Results: results.csv, one row a cell, and pictures. A
stopped sweep goes on where it was, cell by cell.
"""

import copy
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

from groundfloor import checks, cli, output, precision
from groundfloor.checks import (
    AtLeastTwo,
    Count,
    CountOrZero,
    InnerShare,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Share,
)
from groundfloor.data.config import SOURCE, DataConfig
from groundfloor.errors import UserError
from groundfloor.joining import join
from groundfloor.output import Join
from groundfloor.precision import Precision
from groundfloor.runs import Progress, Run, Stopping, content_hash, counted, write_json
from prune_torch import elastic
from prune_torch.methods import METHODS
from prune_torch.protocol import fitting, report, workers
from prune_torch.protocol.cells import Key, method_of, search

SIZES = {"img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads"}
WIDENED = ("methods", "densities", "seeds", "distil", "merge")  # a sweep may be
PLACES = (*SOURCE, "device", "jobs", "ray", "checkpointing", "elastic", *output.FIELDS)


@dataclass(frozen=True)
class Config(Join, DataConfig):
    """The network, the data, the protocol, and which cells."""

    dataset: str = "cifar10"
    methods: tuple[str, ...] = tuple(METHODS)
    """Methods, by name; "all": every one."""
    densities: tuple[PositiveShare, ...] = tuple(round(0.1 * i, 1) for i in range(1, 10))
    """Nonzero parameters / all parameters."""
    seeds: tuple[Seed, ...] = (0,)
    """Seeds of batches and draws; the dense network is the same for all."""

    model: str = "vit_tiny_patch16_224"
    """timm's name of a Vision Transformer."""
    model_args: dict[str, CountOrZero] = field(default_factory=dict)
    """Arguments of timm.create_model besides the name and the number of classes."""
    mean_pool: bool = False
    """No class token: the head sees the mean of the patches."""
    pretrained: bool = False
    """Take timm's trained weights from the hub."""
    weights: Path | None = None
    """File of weights: .safetensors, .pth or Google's .npz."""
    from_sparse: Path | None = None
    """Begin with this pruned network of a sweep instead of a dense one: its zeros stay, and it goes
    to lower densities, or to 2:4 besides."""

    images: Count | None = None
    """Use only this many images of each split; none uses all."""
    val_fraction: InnerShare = 0.1
    """Share of train that is held out for validation."""
    augment: bool = False
    """Random crops with 4 pixels of padding, and mirror images."""

    batch_size: Count = 64
    """Images per step."""
    dense_steps: CountOrZero = 400
    """Training steps of the dense network; 0 takes --weights as they are."""
    dense_rate: Positive = 1e-3
    """Its learning rate (AdamW, or Muon in a mixed recipe; warm-up, cosine)."""
    recipe: Literal["plain", "mixed"] = "plain"
    """How it is trained: as the cells are, or with mixed images, Muon, averaged weights and a decay
    of its own."""
    retrain: bool = False
    """Train it even if the package has one of these settings."""
    steps: AtLeastTwo = 120
    """Training steps of each cell, search and recovery together."""
    rate: Positive = 5e-4
    """Learning rate of each cell."""
    decay: NotNegative = 0.01
    """Weight decay of matrices."""
    distil: tuple[Share, ...] = (0.0,)
    """Weights of distillation from the dense network in the recovery, each a sweep of its own, with
    a pass of that network more in each step; 0 uses labels alone."""
    merge: tuple[CountOrZero, ...] | None = None
    """Token merging, for the picture of accuracy against compute: tokens merged in each block of
    the dense network; default 0 1 2 4 8, as far as there are tokens."""
    prunable: Literal["blocks", "matrices"] = "blocks"
    """What may become zero: the matrices of the blocks, or also patch embedding and head."""
    precision: Precision = "float32"
    """Of the forward pass; auto: bfloat16 where it makes a step on this device faster by 15 %."""
    checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more time."""

    elastic: bool = False
    """Also one file for all densities of each method that can: the dense network's weights with
    their importance, for prune_torch.load(FILE, density=0.3)."""
    seed: Seed = 0
    """Seed of the dense network."""
    jobs: Count = 1
    """Cells side by side, each on its own GPU or share of the cores."""
    ray: str | None = None
    """Run the cells on a Ray cluster, one a GPU or core: its address, "auto", or "local"."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""

    def __post_init__(self):
        if self.methods == ("all",):
            object.__setattr__(self, "methods", tuple(METHODS))
        unknown = [name for name in self.methods if name not in METHODS]
        checks.require(not unknown, "methods", unknown[:1], f"there are {', '.join(METHODS)}")
        for name in ("methods", "densities", "seeds", "distil"):
            if not getattr(self, name):
                raise ValueError(f"--{name} needs at least one")
        super().__post_init__()
        for name in SIZES & self.model_args.keys():
            checks.require(self.model_args[name] > 0, name, 0, "must be at least 1")
        given = self.dense_steps or self.pretrained or self.weights or self.from_sparse
        checks.require(given, "dense_steps", 0, "needs --weights or --pretrained")


SMALL = {"img_size": 32, "patch_size": 4}
REPRESENTATIVE = (  # of each family the best known, for a first sweep of minutes
    *("unpruned", "random", "magnitude", "magnitude-refit", "erk", "gradual", "l1", "group-lasso"),
    *("dessilbi", "movement", "lora", "supermask", "snip", "synflow", "wanda", "sparsegpt", "rigl"),
    *("heads", "neurons", "variance", "compensated", "2-of-4", "2-of-4-refit"),
)
PRESETS = {
    "digits": Config(
        dataset="digits",
        methods=REPRESENTATIVE,
        dense_steps=1500,
        dense_rate=3e-3,
        steps=40,
        jobs=2,
        model_args={
            "img_size": 8,
            "patch_size": 2,
            "in_chans": 1,
            "embed_dim": 48,
            "depth": 4,
            "num_heads": 4,
        },
    ),
    "cifar10-small": Config(
        model="vit_tiny_r_s16_p8_224",  # behind a convolution, 7x7 pixels, and pooling
        model_args={
            "img_size": 32,
            "patch_size": 1,
            "embed_dim": 96,
            "depth": 6,
            "num_heads": 4,
            "mlp_ratio": 2,
        },
        mean_pool=True,
        augment=True,
        batch_size=128,
        dense_steps=12_000,
        dense_rate=1e-2,
        recipe="mixed",
        steps=1000,
    ),
    "cifar10-tiny": Config(
        model_args=SMALL,
        augment=True,
        batch_size=128,
        dense_steps=40_000,
        steps=4000,
        precision="auto",
    ),
    "cifar10-in21k": Config(
        model="vit_base_patch16_224.augreg_in21k",
        pretrained=True,
        augment=True,
        dense_steps=2000,
        dense_rate=3e-5,
        steps=2000,
        rate=3e-5,
        precision="auto",
    ),
}


def main(config, preset):
    """Run what is missing, then write table and pictures of all cells of these seeds in the folder,
    also of earlier commands; returns the summary (dict)."""
    for path in (config.weights, config.from_sparse):
        if path is not None and not path.is_file():  # before the data are read
            raise UserError(f"{path} does not exist")
    bench = workers.make_bench(config)
    fitting.refuse_unfit(config, bench)
    keys, refused = _cells(config, bench)
    if not keys:
        raise UserError(f"nothing to run: {refused[0]}")
    run = Run.of(
        "prune",
        preset,
        config,
        bench.data_set,
        not_identity=(*PLACES, *WIDENED),
        files=("weights", "from_sparse"),
    )
    same = {"precision.json": precision.kept, "dense-*.safetensors": content_hash}
    join(run, config.join, [f"cells/{key.stem}.json" for key in keys], same)
    missing = [key for key in keys if not _row_path(run, key).exists()]
    print(f"{counted(len(keys), 'cell')}, {len(missing)} to run; in {run.folder}", flush=True)
    fitting.say_resized(bench)
    fitting.say_idle(config, PRESETS.get(preset, Config()))
    for line in refused:
        print(f"left out: {line}")
    config = bench.choose_precision(run.path("precision.json"))
    file, dense = bench.dense(run.folder)
    kind = "dense" if config.from_sparse is None else "sparse"
    print(f"{kind} network: test top-1 {100 * dense['test']['top1']:.2f} %", flush=True)
    there = len(keys) - len(missing)
    Stopping.kept = f"the dense network and {counted(there, 'finished cell')} in {run.folder}"
    failed = 0
    with Progress(len(keys), "cell", start=there) as progress:
        for key, row in workers.rows(config, bench, file, run, missing):
            if isinstance(row, UserError):
                failed += 1
                progress.say(f"{key.stem} failed: {row}")
                continue
            write_json(_row_path(run, key), row)
            Stopping.kept = f"{counted(progress.done + 1, 'finished cell')} in {run.folder}"
            progress.advance(1, top1=f"{key.stem}: {100 * row['top1']:.2f} %")
    if config.elastic:
        write_elastic(config, bench, run)
    rows = [row for row in report.finished(run) if row["seed"] in config.seeds]
    if not rows:
        raise UserError("every cell failed; see above")
    summary = report.write(config, bench, run, rows, dense, refused)
    if failed:
        what = counted(failed, "cell")
        raise UserError(f"{what} failed, see above; the same command tries them again")
    return summary


def write_elastic(config, bench, run):
    """METHOD-elastic.safetensors in the run's folder for each method that can, of the first seed;
    a line for each that cannot."""
    for name in config.methods:
        path, why = run.path(f"{name}-elastic.safetensors"), elastic.unfit(name)
        if why:
            print(f"{name}: no elastic file ({why})")
        elif not path.exists():
            key = Key(name, 1.0, config.seeds[0])
            method = method_of(bench, key, copy.deepcopy(bench.model))
            if method.cell.steps:
                search(method, run.path("cells") / key.search(bench))
            importances = elastic.of_method(method, config.prunable)
            elastic.save(
                method.cell.model,
                importances,
                path,
                prunable=config.prunable,
                structured=method.structured,
            )
            print(f"{path}: any density")


def _cells(config, bench):
    """Keys of the cells, and a line for each method at densities that it cannot reach.

    Density by density, so that a stopped sweep has some with all methods.
    """
    keys, refused = [], {}
    for level, method in product((None, *config.densities), config.methods):
        if METHODS[method].chooses != (level is None):
            continue
        made = method_of(bench, Key(method, level, 0), bench.model)
        why = (level and fitting.beyond(made.cell)) or made.refusal()
        if why:
            refused.setdefault((method, why), []).append(level)
            continue
        keys += [Key(method, level, *rest) for rest in product(config.seeds, config.distil)]
    return list(dict.fromkeys(keys)), [
        f"{method}{''.join(f' {level:g}' for level in levels if level)} ({why})"
        for (method, why), levels in refused.items()
    ]


def _row_path(run, key):
    return run.path("cells", f"{key.stem}.json")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
