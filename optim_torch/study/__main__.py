"""Study the parts of a convolutional network one by one, then look inside the best.

A base setting is trained, then each axis changes one thing of it: widths, losses with their
regularisation, activations, optimizers, blocks (BatchNorm, residual, dropout); last the best values
of all axes together. All settings have the same steps, batches and seeds, and each has its own
learning rate, searched in the same way. Validation chooses; test is looked at once, for the base
and the best. Results: results.csv, summary.json, weights and pictures. A stopped study goes on
where it was, trial by trial, and may be widened.
"""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

import torch

from groundfloor import checks, cli, output, plots, precision, tables
from groundfloor.checks import (
    AtLeastTwo,
    CountOrZero,
    InnerShare,
    Interval,
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
)
from groundfloor.data.config import SOURCE, DataConfig
from groundfloor.errors import UserError
from groundfloor.joining import join
from groundfloor.output import Join
from groundfloor.precision import Precision
from groundfloor.pytorch import batches, memory
from groundfloor.runs import Progress, Run, counted, duration
from optim_torch.models.conv_net import ACTIVATIONS
from optim_torch.study import insights, losses, report, search, trials

PLACE = (*SOURCE, "device", *output.FIELDS)
WIDENED = ("axes", *search.AXES, "rates", "combine", "seeds", "surface")  # a study may be


@dataclass(frozen=True)
class Config(Join, DataConfig):
    """The data, the network, the base setting, and what is tried instead."""

    images: AtLeastTwo | None = None
    """Use only this many images of each split; none uses all."""
    val_fraction: InnerShare = 0.1
    """Share of train that is held out for validation, which makes all choices."""
    augment: Literal[tuple(trials.AUGMENT)] = "none"
    """crop: shifts by up to 4 pixels, zeros move in, and mirror images at random; alternating:
    shifts by up to 2 pixels, reflected borders, each image mirrored in every other epoch."""
    cutout: CountOrZero = 0
    """Side in pixels of a square that is blanked in each training image; 0: none."""

    layers: tuple[str, ...] = ("c16", "c32", "p", "r", "f64")
    """The network: w (whitening, frozen), c64 (convolution), d64 (convolution and pooling), r
    (residual), p (pooling), g (mean), m (maximum), f128 (connected)."""
    logit_scale: Positive = 1.0
    """What the logits are multiplied by."""
    dropout: ShareBelowOne = 0.3
    """Share dropped before each connected layer, in blocks with dropout."""

    width: Positive = 1.0
    """Base: what all widths are multiplied by."""
    loss: str = "cross-entropy+l2"
    """Base: cross-entropy, smoothing, squared or focal; and +l2, +decoupled, +l1."""
    activation: Literal[tuple(ACTIVATIONS)] = "relu"
    """Base: activation."""
    optimizer: Literal[tuple(trials.RATES)] = "nesterov"
    """Base: optimizer; adamw-hand is written here, by hand."""
    block: str = "bn+residual"
    """Base: plain, or of bn, residual, dropout joined by +."""

    axes: tuple[Literal[tuple(search.AXES)], ...] = tuple(search.AXES)
    """What is varied; none: the base alone."""
    widths: tuple[Positive, ...] = (0.5, 2.0)
    """Widths tried."""
    losses: tuple[str, ...] = (
        "cross-entropy",
        "cross-entropy+decoupled",
        "cross-entropy+l1",
        "smoothing+l2",
        "squared+l2",
        "focal+l2",
    )
    """Losses tried."""
    activations: tuple[Literal[tuple(ACTIVATIONS)], ...] = (
        "leaky_relu",
        "elu",
        "gelu",
        "silu",
        "tanh",
    )
    """Activations tried."""
    optimizers: tuple[Literal[tuple(trials.RATES)], ...] = (
        "sgd",
        "adam",
        "adamw",
        "adamw-hand",
        "rmsprop",
        "dessilbi",
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
    smoothing: ShareBelowOne = 0.1
    """Share of the probability that the loss smoothing spreads over all classes."""
    bias_rate: Positive = 1.0
    """Learning rate of BatchNorm's biases, times that of all else; other than 1, its scales stay 1.
    """
    lookahead: bool = False
    """Let the weights return every 5 steps to a slow copy of themselves."""
    views: bool = False
    """Evaluate by the mean over six views of each image: mirrored, shifted by a pixel."""
    nu: Positive = 5.0
    """DessiLBI's ν."""
    threshold: Positive = 0.05
    """DessiLBI's λ, times the root of a group's size."""

    steps: AtLeastTwo = 200
    """Training steps of each trial: the rate rises for a fifth of them, then falls to zero."""
    batch_size: AtLeastTwo = 64
    """Images per step."""
    precision: Precision = "float32"
    """Of the forward pass; auto: bfloat16 where it makes a step on this device faster by 15 %."""
    surface: Annotated[int, Interval(3, 1001)] = 21
    """Points a side of the loss surface; odd, so that one is the network itself."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of weights, batches, augmentation and dropout."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""

    def __post_init__(self):
        super().__post_init__()
        checks.require(self.surface % 2, "surface", self.surface, "must be odd")
        for field in ("seeds", "rates"):
            values = getattr(self, field)
            checks.require(values, field, "", "give at least one")
            checks.require(len(set(values)) == len(values), field, values, "each of them once")
        for loss in (self.loss, *self.losses):
            losses.parse(loss)
        for block in (self.block, *self.blocks):
            trials.parsed_block(block)


PRESETS = {
    "digits": Config(steps=100, seeds=(0, 1), val_fraction=0.25),
    "cifar10-94": Config(  # airbench94 (Jordan 2024), 2.0 M parameters, 14 epochs
        dataset="cifar10",
        val_fraction=0.02,
        layers=("w", "d64", "c64", "d256", "c256", "d256", "c256", "m"),
        logit_scale=1 / 9,
        loss="smoothing+l2",
        activation="gelu",
        block="bn",
        l2=1.33e-3,
        smoothing=0.2,
        bias_rate=64.0,
        lookahead=True,
        views=True,
        augment="alternating",
        steps=658,
        batch_size=1024,
        rates=(10.0,),
        axes=(),
        precision="auto",
        surface=15,
    ),
    "cifar10-cpu": Config(
        dataset="cifar10",
        layers=("c16", "p", "c32", "p", "r", "c64", "p", "r", "g"),
        augment="crop",
        steps=300,
        surface=15,
    ),
    "cifar10": Config(  # a ResNet-9 (Page 2018), 4.2 M parameters, 74 epochs
        dataset="cifar10",
        layers=("c64", "c128", "p", "r", "c256", "p", "c384", "p", "r", "g"),
        loss="smoothing+l2",
        losses=("cross-entropy", "cross-entropy+l2", "smoothing", "smoothing+decoupled"),
        augment="crop",
        cutout=8,
        steps=6500,
        batch_size=512,
        rates=(2.0,),
        axes=(),
        seeds=(0,),
        nu=100.0,
        threshold=0.1,
    ),
}


def main(config, preset):
    """Train what is missing, choose, look inside the best; returns the summary."""
    plots.use(config.figures)
    memory.keep_freed()
    device = batches.choose_device(config.device)
    data_set = config.load(images=config.images, val_fraction=config.val_fraction)
    data_set.require(classes=2, val=1, test=1)
    height, width = data_set.train.images.shape[1:3]
    count, side = len(data_set.train), min(height, width)
    why = f"{config.dataset} has {counted(count, 'train image')}"
    checks.refuse_beyond("batch_size", config.batch_size, count, why)
    why = f"the images are {height}x{width}"
    checks.refuse_beyond("cutout", config.cutout, side, why)
    if config.augment == "alternating" and side < 3:
        raise UserError(f"{why}: --augment alternating needs 3 pixels a side")
    if config.views and side < 2:
        raise UserError(f"{why}: --views needs 2 pixels a side")
    data = trials.on_device(data_set, device)
    for setting in [search.base(config), *(setting for *_, setting in search.variations(config))]:
        trials.build(config, setting, 0, data)  # an impossible one is refused before any file
    run = Run.of("study", preset, config, data_set, not_identity=(*PLACE, *WIDENED))
    trained = [f"cells/[!.]*_s{seed}.json" for seed in config.seeds]
    join(run, config.join, trained, {"precision.json": precision.kept})
    _say_idle(config, PRESETS.get(preset, Config()))
    where = run.path("precision.json")
    config = trials.with_precision(config, search.base(config), data, where)
    total = config.steps * search.most_trials(config)
    _announce(config, data, run)
    with Progress(total, "step") as progress:
        trainer = trials.Trainer(config, data, run, progress)
        table = search.study(config, trainer)
        if progress.done < total:  # no search was widened, or the best of each was one of those
            progress.advance(total - progress.done)
    reliable = search.reliable(table)
    if not reliable:
        raise UserError("every setting diverged, with one seed at least; lower --rates")
    best = max(reliable, key=lambda entry: (entry["val"]["mean"], -entry["parameters"]))
    seed = max(config.seeds, key=lambda seed: trainer(best["setting"], seed)["val"])
    results = {
        "dataset": data_set.name,
        "data_fingerprint": data_set.fingerprint,
        "train_images": len(data.train),
        "seeds": list(config.seeds),
        "best": {"axis": best["axis"], "value": best["value"], **asdict(best["setting"])},
        "test": {
            name: search.over_seeds(trainer.test(entry["setting"], seed) for seed in config.seeds)
            for name, entry in (("base", table[0]), ("best", best))
        },
        "precision": config.precision,
        "precision_seconds": precision.timed(where),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    name = f"{best['axis']} {best['value']}".strip()
    print(f"looking inside the best: {name}, seed {seed}", flush=True)
    results["insights"] = insights.look(
        run.path("figures"), trainer.network(best["setting"], seed), data, config
    )
    report.write(run, table, results)
    report.show(run)
    tables.write(run.path("table"), report.lines(run.summary()), config.table)
    return run.summary()


def _say_idle(config, usual):
    """Flags that were given and do nothing in this combination."""
    settings = [search.base(config), *(setting for *_, setting in search.variations(config))]
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
    rules += [
        (axis not in config.axes, (axis,), f"without {axis} in --axes") for axis in search.AXES
    ]
    checks.say_idle(config, usual, rules)


def _announce(config, data, run):
    """What will be done, and how long steps of the base say that it takes."""
    for steps in (2, 6):  # the first warms up
        _, row = trials.train(
            replace(config, steps=steps), search.base(config), 0, data, evaluate=False
        )
    settings, most = search.settings(config), search.most_trials(config)
    usual = settings * (len(config.rates) + len(config.seeds) - 1)
    image = row["seconds"] / steps / config.batch_size  # forwards alone are a third of that
    trained = 1.3 * usual * (config.steps * config.batch_size + len(data.val) / 3)  # some are wider
    after = 2 * len(config.seeds) * len(data.test) / 3 + insights.passes(config, data)
    more = f" ({most} if all searches of rates go on)" if most > usual else ""
    print(
        f"{config.dataset}, {len(data.train):,} train images; base network of "
        f"{row['parameters']:,} parameters: {' '.join(config.layers)}\n"
        f"{counted(settings, 'setting')}, {counted(usual, 'trial')}{more} of {config.steps:,} "
        f"steps with {config.batch_size} images, on {data.train.pixels.device}; "
        f"writing to {run.folder}\n"
        f"about {duration(image * trained)} of training if nothing is finished yet, and "
        f"{duration(image * after)} to look inside the best",
        flush=True,
    )
    if config.axes and not search.is_searched(config):
        print("one rate for all settings: what is best may be so at this rate alone", flush=True)
    if not any(layer[0] in "pdgm" for layer in config.layers):
        print("no p, d, g or m among --layers: most parameters are in the first connected layer")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
