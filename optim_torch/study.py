"""Study the parts of a convolutional network one by one, then look inside the best.

A base setting is trained, then each axis changes one thing of it: widths, losses with their
regularisation, activations, optimizers, blocks (BatchNorm, residual, dropout); last the best values
of all axes together. All cells have the same steps, batches and seeds. Validation chooses; test is
looked at once, for the base and the best. Results: results.csv, summary.json, weights and pictures.
A stopped study goes on where it was, cell by cell, and may be widened.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from common import batches, cli, datasets
from common.errors import UserError
from common.runs import Progress, Run, duration, spread
from optim_torch import cells, insights, losses, study_report
from optim_torch.cells import Setting
from optim_torch.models.conv_net import ACTIVATIONS

AXES = {  # axis: what it changes of a Setting
    "widths": "width",
    "losses": "loss",
    "activations": "activation",
    "optimizers": "optimizer",
    "blocks": "block",
}
NOT_IDENTITY = (
    *("data_dir", "download", "out", "name", "device"),
    *("axes", *AXES, "rates", "combine", "seeds", "surface"),  # a study may be widened
)


@dataclass(frozen=True)
class Config:
    """The data, the network, the base setting, and what is tried instead."""

    dataset: str = "digits"
    """Data set: digits, mnist, cifar10, or any prepared TFDS image set in --data-dir."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    download: bool = False
    """Let torchvision download the data set if it is missing."""
    images: int | None = None
    """Use only this many images of each split; none uses all."""
    val_fraction: float = 0.1
    """Share of train that is held out for validation, which makes all choices."""
    augment: bool = False
    """Random crops with 4 pixels of padding, and mirror images."""
    cutout: int = 0
    """Side in pixels of a square that is blanked in each training image; 0: none."""

    layers: tuple[str, ...] = ("c16", "c32", "p", "r", "f64")
    """The network: c64 (convolution), r (residual), p (pooling), g (mean), f128 (connected)."""
    dropout: float = 0.3
    """Share dropped before each connected layer, in blocks with dropout."""

    width: float = 1.0
    """Base: what all widths are multiplied by."""
    loss: str = "cross-entropy+l2"
    """Base: cross-entropy, smoothing, squared or focal; and +l2, +decoupled, +l1."""
    activation: Literal[tuple(ACTIVATIONS)] = "relu"
    """Base: activation."""
    optimizer: Literal[tuple(cells.RATES)] = "nesterov"
    """Base: optimizer; adamw-hand is written here, by hand."""
    block: str = "bn+residual"
    """Base: plain, or of bn, residual, dropout joined by +."""

    axes: tuple[Literal[tuple(AXES)], ...] = tuple(AXES)
    """What is varied; none: the base alone."""
    widths: tuple[float, ...] = (0.5, 2.0)
    """Widths tried."""
    losses: tuple[str, ...] = (
        *("cross-entropy", "cross-entropy+decoupled", "cross-entropy+l1"),
        *("smoothing+l2", "squared+l2", "focal+l2"),
    )
    """Losses tried."""
    activations: tuple[Literal[tuple(ACTIVATIONS)], ...] = (
        *("leaky_relu", "elu", "gelu", "silu", "tanh"),
    )
    """Activations tried."""
    optimizers: tuple[Literal[tuple(cells.RATES)], ...] = (
        *("sgd", "adam", "adamw", "adamw-hand", "rmsprop", "dessilbi"),
    )
    """Optimizers tried."""
    blocks: tuple[str, ...] = ("plain", "residual", "bn", "bn+residual+dropout")
    """Blocks tried."""
    rates: tuple[float, ...] = (0.3, 1.0, 3.0)
    """Times each optimizer's usual learning rate; the best on validation, first seed, is taken."""
    combine: bool = True
    """Train the best values of all axes together, too."""

    l2: float = 5e-4
    """λ of +l2, the loss λ/2 |W|²; biases and norms are left out."""
    decoupled: float = 5e-4
    """λ of +decoupled and AdamW's decay: what a step at the highest rate takes off the weights."""
    l1: float = 1e-5
    """λ of +l1, the loss λ Σ|w|."""
    nu: float = 5.0
    """DessiLBI's ν."""
    threshold: float = 0.05
    """DessiLBI's λ, times the root of a group's size."""

    steps: int = 200
    """Training steps of each cell: the rate rises for a fifth of them, then falls to zero."""
    batch_size: int = 64
    """Images per step."""
    amp: bool = False
    """Compute in bfloat16 where PyTorch's autocast does; on a GPU only."""
    surface: int = 21
    """Points a side of the loss surface."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights, batches, augmentation and dropout."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""
    name: str | None = None
    """Suffix of the run folder."""
    out: Path | None = None
    """Run folder; default runs/study-PRESET[-NAME]."""

    def __post_init__(self):
        for loss in (self.loss, *self.losses):
            losses.parse(loss)
        for block in (self.block, *self.blocks):
            cells.parsed_block(block)
        if not self.seeds or not self.rates:
            raise ValueError("--seeds and --rates need at least one each")
        if not all(0 <= seed < 2**31 for seed in self.seeds):
            raise ValueError("--seeds must lie in [0, 2^31)")
        if min(*self.rates, self.width, *self.widths) <= 0:
            raise ValueError("--rates, --width and --widths must be above 0")
        if not 0 < self.val_fraction < 1:
            raise ValueError("--val-fraction must lie in (0, 1): validation chooses")
        if not 0 <= self.dropout < 1:
            raise ValueError("--dropout must lie in [0, 1)")
        if min(self.l2, self.decoupled, self.l1, self.cutout) < 0:
            raise ValueError("--l2, --decoupled, --l1 and --cutout must not be negative")
        if min(self.nu, self.threshold) <= 0:
            raise ValueError("--nu and --threshold must be above 0")
        if self.steps < 2 or self.batch_size < 2 or self.surface < 3:
            raise ValueError("--steps and --batch-size must be at least 2, --surface at least 3")
        if self.images is not None and self.images < 2:
            raise ValueError("--images must be at least 2")


PRESETS = {
    "digits": Config(steps=100, seeds=(0, 1), val_fraction=0.25),
    "cifar10-cpu": Config(
        dataset="cifar10",
        layers=("c16", "p", "c32", "p", "r", "c64", "p", "r", "g"),
        **{"augment": True, "steps": 300, "surface": 15},
    ),
    "cifar10": Config(  # a ResNet-9 (Page 2018), 4.2 M parameters, 74 epochs
        dataset="cifar10",
        layers=("c64", "c128", "p", "r", "c256", "p", "c384", "p", "r", "g"),
        loss="smoothing+l2",
        losses=("cross-entropy", "cross-entropy+l2", "smoothing", "smoothing+decoupled"),
        **{"augment": True, "cutout": 8, "steps": 6500, "batch_size": 512, "rates": (2.0,)},
        **{"axes": (), "seeds": (0,), "nu": 100.0, "threshold": 0.1},
    ),
}


def main(config, preset):
    """Train what is missing, choose, look inside the best; returns the summary."""
    device = batches.choose_device(config.device)
    if config.amp and device.type != "cuda":
        raise UserError("--amp needs a GPU")
    data_set = datasets.load(
        config.dataset,
        config.data_dir,
        download=config.download,
        images=config.images,
        val_fraction=config.val_fraction,
    )
    data = cells.on_device(data_set, device)
    for setting in [base(config), *(setting for *_, setting in variations(config))]:
        cells.build(config, setting, 0, data)  # an impossible one is refused before any file
    run = Run.of("study", preset, config, data_set, not_identity=NOT_IDENTITY)
    total = config.steps * count(config)
    _announce(config, data, run, total)
    with Progress(total, "step") as progress:
        trainer = cells.Trainer(config, data, run, progress)
        table = study(config, trainer)
        if progress.done < total:  # the best of each was one of those tried
            progress.advance(total - progress.done)
    best = max(table, key=lambda entry: (entry["val"]["mean"], -entry["parameters"]))
    seed = max(config.seeds, key=lambda seed: trainer(best["setting"], seed)["val"])
    if trainer(best["setting"], seed)["diverged"]:
        raise UserError("every network diverged; lower --rates, in another --out")
    results = {
        "dataset": config.dataset,
        "data_fingerprint": data_set.fingerprint,
        "train_images": len(data.train),
        "seeds": list(config.seeds),
        "best": {"axis": best["axis"], "value": best["value"], **asdict(best["setting"])},
        "test": {
            "base": spread(trainer.test(table[0]["setting"], seed) for seed in config.seeds),
            "best": spread(trainer.test(best["setting"], seed) for seed in config.seeds),
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    name = f"{best['axis']} {best['value']}".strip()
    print(f"looking inside the best: {name}, seed {seed}", flush=True)
    results["insights"] = insights.look(
        run.path("figures"), trainer.network(best["setting"], seed), data, config
    )
    study_report.write(run, table, results)
    study_report.show(run)
    return run.summary()


def base(config):
    """The base setting, at its optimizer's usual rate."""
    return Setting(*(getattr(config, name) for name in AXES.values()), rate=1.0)


def variations(config):
    """(axis, value, setting) of all that is tried instead of the base, at the usual rate."""
    for axis in config.axes:
        for value in dict.fromkeys(getattr(config, axis)):
            setting = replace(base(config), **{AXES[axis]: value})
            if setting != base(config):
                yield axis, value, setting


def count(config):
    """Cells of the study, at most."""
    settings = [setting for *_, setting in variations(config)]
    optimizers = {setting.optimizer for setting in (base(config), *settings)}
    tuned = len(optimizers) * (len(set(config.rates)) + len(config.seeds) - 1)
    others = sum(setting.optimizer == config.optimizer for setting in settings)
    return tuned + (others + _combines(config)) * len(config.seeds)


def _combines(config):
    return bool(config.axes and config.combine)


def study(config, trainer):
    """Train all cells; returns the table: a list of dicts, the base first.

    trainer: (setting, seed) -> row. Each entry holds axis, value, setting, rows (one a seed), val
    (`spread`), parameters.
    """
    rates = {}

    def entry(axis, value, setting):
        if setting.optimizer not in rates:
            rates[setting.optimizer] = best_rate(config, trainer, setting.optimizer)
        setting = replace(setting, rate=rates[setting.optimizer])
        rows = [trainer(setting, seed) for seed in config.seeds]
        return {
            **{"axis": axis, "value": value, "setting": setting, "rows": rows},
            "val": spread(row["val"] for row in rows),
            "parameters": rows[0]["parameters"],
        }

    table = [entry("base", "", base(config))]
    table += [entry(*variation) for variation in variations(config)]
    if _combines(config):
        together = base(config)
        for axis in config.axes:
            among = [row for row in table if row["axis"] in ("base", axis)]
            best = max(among, key=lambda row: row["val"]["mean"])["setting"]
            together = replace(together, **{AXES[axis]: getattr(best, AXES[axis])})
        known = [replace(row["setting"], rate=1.0) for row in table]
        if together not in known:
            table.append(entry("combined", "best of each", together))
    return table


def best_rate(config, trainer, optimizer):
    """The multiple of the optimizer's usual rate that is best on validation, with the first seed.

    Of equals the one nearest to the usual rate.
    """
    setting = replace(base(config), optimizer=optimizer)
    found = {
        rate: trainer(replace(setting, rate=rate), config.seeds[0])["val"] for rate in config.rates
    }
    return max(found, key=lambda rate: (found[rate], -abs(math.log(rate))))


def _announce(config, data, run, total):
    """What will be done, and how long four steps of the base say that it takes."""
    for _ in range(2):  # the first warms up
        _, row = cells.train(replace(config, steps=4), base(config), 0, data, evaluate=False)
    seconds = row["seconds"] / 4
    print(
        f"{config.dataset}, {len(data.train):,} train images; base network of "
        f"{row['parameters']:,} parameters: {' '.join(config.layers)}\n"
        f"up to {count(config)} cells of {config.steps:,} steps with {config.batch_size} images, "
        f"on {data.train.pixels.device}; writing to {run.folder}\n"
        f"about {duration(1.3 * total * seconds)} of training if nothing is finished yet",
        flush=True,
    )


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
