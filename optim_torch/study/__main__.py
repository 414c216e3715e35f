"""Study the parts of a convolutional network one by one, then look inside the best.

A base setting is trained, then each axis changes one thing of it: widths, losses with their
regularisation, activations, optimizers, blocks (BatchNorm, residual, dropout); last the best values
of all axes together. All settings have the same steps, batches and seeds, and each has its own
learning rate, searched in the same way. Validation chooses; test is looked at once, for the base
and the best. Results: results.csv, summary.json, weights and pictures. A stopped study goes on
where it was, cell by cell, and may be widened.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch

from groundfloor import checks, cli
from groundfloor.checks import (
    LARGEST,
    CountOrZero,
    InnerShare,
    Interval,
    Name,
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
)
from groundfloor.data.config import DataConfig
from groundfloor.errors import UserError
from groundfloor.pytorch import batches
from groundfloor.runs import Progress, Run, duration, spread
from optim_torch.models.conv_net import ACTIVATIONS
from optim_torch.study import cells, insights, losses, report
from optim_torch.study.cells import Setting

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
WIDENING = 3.0  # factor by which a search of rates goes on beyond its ends
WIDENINGS = 2  # how often it may
AtLeastTwo = Annotated[int, Interval(2, LARGEST)]


@dataclass(frozen=True)
class Config(DataConfig):
    """The data, the network, the base setting, and what is tried instead."""

    images: AtLeastTwo | None = None
    """Use only this many images of each split; none uses all."""
    val_fraction: InnerShare = 0.1
    """Share of train that is held out for validation, which makes all choices."""
    augment: bool = False
    """Random crops with 4 pixels of padding, and mirror images."""
    cutout: CountOrZero = 0
    """Side in pixels of a square that is blanked in each training image; 0: none."""

    layers: tuple[str, ...] = ("c16", "c32", "p", "r", "f64")
    """The network: c64 (convolution), r (residual), p (pooling), g (mean), f128 (connected)."""
    dropout: ShareBelowOne = 0.3
    """Share dropped before each connected layer, in blocks with dropout."""

    width: Positive = 1.0
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
    widths: tuple[Positive, ...] = (0.5, 2.0)
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
    rates: tuple[Positive, ...] = (0.3, 1.0, 3.0)
    """Times the optimizer's usual learning rate; each setting takes its best on validation, with
    the first seed. A best at an end is followed beyond it, twice by a factor of 3. One: no search.
    """
    combine: bool = True
    """Train the best values of all axes together, too."""

    l2: NotNegative = 5e-4
    """λ of +l2, the loss λ/2 |W|²; biases and norms are left out."""
    decoupled: ShareBelowOne = 5e-4
    """λ of +decoupled and AdamW's decay: what a step at the highest rate takes off the weights."""
    l1: NotNegative = 1e-5
    """λ of +l1, the loss λ Σ|w|."""
    nu: Positive = 5.0
    """DessiLBI's ν."""
    threshold: Positive = 0.05
    """DessiLBI's λ, times the root of a group's size."""

    steps: AtLeastTwo = 200
    """Training steps of each cell: the rate rises for a fifth of them, then falls to zero."""
    batch_size: AtLeastTwo = 64
    """Images per step."""
    amp: bool = False
    """Compute in bfloat16 where PyTorch's autocast does; on a GPU only."""
    surface: Annotated[int, Interval(3, 1001)] = 21
    """Points a side of the loss surface."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of weights, batches, augmentation and dropout."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""
    name: Name | None = None
    """Suffix of the run folder."""
    out: Path | None = None
    """Run folder; default runs/study-PRESET[-NAME]."""

    def __post_init__(self):
        checks.check(self)
        for field in ("seeds", "rates"):
            values = getattr(self, field)
            checks.require(values, field, "", "give at least one")
            checks.require(len(set(values)) == len(values), field, values, "each of them once")
        for loss in (self.loss, *self.losses):
            losses.parse(loss)
        for block in (self.block, *self.blocks):
            cells.parsed_block(block)


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
    data_set = config.load(images=config.images, val_fraction=config.val_fraction)
    data_set.require(classes=2, val=1, test=1)
    height, width = data_set.train.images.shape[1:3]
    count, side = len(data_set.train), min(height, width)
    why = f"{config.dataset} has {count:,} train images"
    checks.refuse_beyond("batch_size", config.batch_size, count, why)
    why = f"the images are {height}x{width}"
    checks.refuse_beyond("cutout", config.cutout, side, why)
    data = cells.on_device(data_set, device)
    for setting in [base(config), *(setting for *_, setting in variations(config))]:
        cells.build(config, setting, 0, data)  # an impossible one is refused before any file
    run = Run.of("study", preset, config, data_set, not_identity=NOT_IDENTITY)
    _say_idle(config, PRESETS.get(preset, Config()))
    total = config.steps * most_cells(config)
    _announce(config, data, run)
    with Progress(total, "step") as progress:
        trainer = cells.Trainer(config, data, run, progress)
        table = study(config, trainer)
        if progress.done < total:  # no search was widened, or the best of each was one of those
            progress.advance(total - progress.done)
    if not reliable(table):
        raise UserError("every setting diverged, with one seed at least; lower --rates")
    best = max(reliable(table), key=lambda entry: (entry["val"]["mean"], -entry["parameters"]))
    seed = max(config.seeds, key=lambda seed: trainer(best["setting"], seed)["val"])
    results = {
        "dataset": config.dataset,
        "data_fingerprint": data_set.fingerprint,
        "train_images": len(data.train),
        "seeds": list(config.seeds),
        "best": {"axis": best["axis"], "value": best["value"], **asdict(best["setting"])},
        "test": {
            name: over_seeds(trainer.test(entry["setting"], seed) for seed in config.seeds)
            for name, entry in (("base", table[0]), ("best", best))
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    name = f"{best['axis']} {best['value']}".strip()
    print(f"looking inside the best: {name}, seed {seed}", flush=True)
    results["insights"] = insights.look(
        run.path("figures"), trainer.network(best["setting"], seed), data, config
    )
    report.write(run, table, results)
    report.show(run)
    return run.summary()


def _say_idle(config, usual):
    """Flags that were given and do nothing in this combination."""
    settings = [base(config), *(setting for *_, setting in variations(config))]
    used = "+".join(f"{s.loss}+{s.optimizer}+{s.block}" for s in settings).split("+")
    adamw = "adamw" in used or "adamw-hand" in used
    rules = [
        ("dessilbi" not in used, ("nu", "threshold"), "without the optimizer dessilbi"),
        ("dropout" not in used, ("dropout",), "without a block with dropout"),
        ("l1" not in used, ("l1",), "without a loss +l1"),
        ("l2" not in used, ("l2",), "without a loss +l2"),
        ("decoupled" not in used and not adamw, ("decoupled",), "without +decoupled or adamw"),
        (not config.axes, ("combine",), "without --axes"),
    ]
    rules += [(axis not in config.axes, (axis,), f"without {axis} in --axes") for axis in AXES]
    checks.say_idle(config, usual, rules)


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


def most_cells(config):
    """Cells that the study trains at most."""
    return _settings(config) * (len(config.rates) + WIDENINGS * _searched(config) + _others(config))


def _settings(config):
    return 1 + len(list(variations(config))) + bool(config.axes and config.combine)


def _searched(config):
    return len(config.rates) > 1


def _others(config):
    return len(config.seeds) - 1


def study(config, trainer):
    """Train all cells; returns the table: a list of dicts, the base first.

    trainer: (setting, seed) -> row. Each entry holds axis, value, setting, at_end (the best rate is
    the last that was tried), rows (one a seed), val (`over_seeds`), parameters.
    """

    def entry(axis, value, setting):
        setting, at_end = tuned(config, trainer, setting)
        rows = [trainer(setting, seed) for seed in config.seeds]
        return {
            **{"axis": axis, "value": value, "setting": setting, "at_end": at_end, "rows": rows},
            "val": over_seeds(row["val"] for row in rows),
            "parameters": rows[0]["parameters"],
        }

    table = [entry("base", "", base(config))]
    table += [entry(*variation) for variation in variations(config)]
    if config.axes and config.combine:
        together = base(config)
        for axis in config.axes:
            among = reliable(row for row in table if row["axis"] in ("base", axis))
            if among:
                best = max(among, key=lambda row: row["val"]["mean"])["setting"]
                together = replace(together, **{AXES[axis]: getattr(best, AXES[axis])})
        known = [replace(row["setting"], rate=1.0) for row in table]
        if together not in known:
            table.append(entry("combined", "best of each", together))
    return table


def reliable(table):
    """The entries of which no seed diverged: what may be chosen."""
    return [entry for entry in table if all(row["val"] is not None for row in entry["rows"])]


def over_seeds(shares):
    """`spread` of the seeds that did not diverge (not None), their number as "seeds"."""
    shares = [share for share in shares if share is not None]
    found = spread(shares) if shares else {"mean": None, "std": None}
    return {**found, "seeds": len(shares)}


def tuned(config, trainer, setting):
    """The setting at its best rate on validation, with the first seed; is that rate at an end?

    Tried are `config.rates`, times the optimizer's usual one; while the best is the highest or the
    lowest, three times or a third of it, too. Of equals the one nearest to the usual rate. What
    diverged is worse than anything; if all do, the search goes down.
    """

    def score(rate):
        val = trainer(replace(setting, rate=rate), config.seeds[0])["val"]
        return (-1.0, -rate) if val is None else (val, -abs(math.log(rate)))

    found = {rate: score(rate) for rate in sorted(config.rates)}
    best = max(found, key=found.get)
    for _ in range(WIDENINGS * _searched(config)):
        if min(found) < best < max(found):
            break
        factor = WIDENING if best == max(found) else 1 / WIDENING
        rate = float(f"{best * factor:.3g}")
        found[rate] = score(rate)
        best = max(found, key=found.get)
    at_end = _searched(config) and best in (min(found), max(found))
    return replace(setting, rate=best), at_end


def _announce(config, data, run):
    """What will be done, and how long steps of the base say that it takes."""
    for steps in (2, 6):  # the first warms up
        _, row = cells.train(replace(config, steps=steps), base(config), 0, data, evaluate=False)
    settings, most = _settings(config), most_cells(config)
    usual = settings * (len(config.rates) + _others(config))
    image = row["seconds"] / steps / config.batch_size  # forwards alone are a third of that
    trained = 1.3 * usual * (config.steps * config.batch_size + len(data.val) / 3)  # some are wider
    after = 2 * len(config.seeds) * len(data.test) / 3 + insights.passes(config, data)
    more = f" ({most} if all searches of rates go on)" if most > usual else ""
    print(
        f"{config.dataset}, {len(data.train):,} train images; base network of "
        f"{row['parameters']:,} parameters: {' '.join(config.layers)}\n"
        f"{settings} settings, {usual} cells{more} of {config.steps:,} steps with "
        f"{config.batch_size} images, on {data.train.pixels.device}; writing to {run.folder}\n"
        f"about {duration(image * trained)} of training if nothing is finished yet, and "
        f"{duration(image * after)} to look inside the best",
        flush=True,
    )
    if config.axes and not _searched(config):
        print("one rate for all settings: what is best may be so at this rate alone", flush=True)
    if not {"p", "g"} & set(config.layers):
        print("no p or g among --layers: most parameters are in the first connected layer")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
