"""Train a network with DessiLBI or a plain optimizer, and report the structure that it found.

One command trains, evaluates W, W on the support of Γ and Γ itself on test at the end, draws the
path and the structure, and writes summary.json. The same command on the same folder resumes.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch

from groundfloor import checks, cli, output, plots, precision, tables
from groundfloor.checks import (
    Count,
    CountOrZero,
    InnerShare,
    Interval,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Share,
    ShareBelowOne,
)
from groundfloor.data.config import SOURCE, DataConfig
from groundfloor.output import Output
from groundfloor.precision import Precision
from groundfloor.pytorch import batches, memory
from groundfloor.pytorch.autocast import step_seconds
from groundfloor.runs import Run, counted, duration
from optim_torch.dessilbi import structure
from optim_torch.dessilbi.optimizer import DessiLBI
from optim_torch.training import evaluate, figures, loop, tickets

Width = Annotated[int, Interval(1, 100_000)]
NOT_IDENTITY = (*SOURCE, "device", *output.FIELDS)  # may differ on resuming
Base = Literal["sgd", "adam", "adamw", "radam", "nadam", "adamax", "adagrad", "rmsprop"]


@dataclass(frozen=True)
class Config(Output, DataConfig):
    """What to train on, the network, the optimizer, and where to write."""

    images: Count | None = None
    """Use only this many images of each split; none uses all."""
    val_fraction: ShareBelowOne = 0.1
    """Share of train that is held out for validation; 0 trains on all."""
    standardise: bool = False
    """Subtract the channel means and divide by the deviations; else pixels lie in [0, 1]."""
    augment: bool = False
    """Random crops with 4 pixels of padding, and mirror images."""

    model: Literal["lenet", "vgg16", "vgg19", "resnet20", "resnet56"] = "lenet"
    """The network."""
    widths: tuple[Width, ...] | None = None
    """Filters of each layer (LeNet: 4, VGG: one a convolution, ResNet: the first); none: usual."""

    optimizer: Literal["dessilbi"] | Base = "dessilbi"
    """DessiLBI, or an optimizer of PyTorch alone."""
    base: Base = "sgd"
    """What DessiLBI moves W with."""
    lr: NotNegative = 0.1
    """Learning rate of W; also of Γ unless --lr-gamma is given."""
    momentum: ShareBelowOne = 0.9
    """Momentum of sgd and rmsprop."""
    weight_decay: NotNegative = 0.0
    """PyTorch's weight decay of the optimizer."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    """Learning rate over the epochs: constant, multiplied every --drop-every, or cosine to zero."""
    drop_every: Count = 20
    """Epochs between drops of the schedule "step"."""
    drop_factor: PositiveShare = 0.1
    """What each drop multiplies the learning rate by."""

    kappa: Positive = 1.0
    """DessiLBI's damping κ."""
    nu: Positive = 20.0
    """DessiLBI's ν: W and Γ are coupled by |W - Γ|² / 2ν."""
    lr_gamma: Positive | None = None
    """Step of V, constant; none: the learning rate, with its schedule."""
    coupling: Literal["decoupled", "coupled"] = "decoupled"
    """Coupling beside the base's step, or inside the gradient that it sees."""
    penalty: Literal["auto", "l1", "filter", "column", "layer"] = "auto"
    """What is selected together; auto: filters of convolutions, entries of matrices."""
    layers: tuple[str, ...] = ()
    """Layers that Γ belongs to; none given: every convolution and matrix."""
    threshold: NotNegative = 1.0
    """λ, what |V| has to pass."""
    scale_by_size: bool = False
    """Multiply λ by the root of a group's size."""
    gamma_adaptive: bool = False
    """Move V by Adam's rule."""
    target_density: InnerShare | None = None
    """Share of all weights that Γ shall keep: λ follows it; none: λ stays as it is."""

    epochs: Count = 60
    """Passes over the train images."""
    batch_size: Count = 128
    """Images per step."""
    precision: Precision = "float32"
    """Of the forward pass; auto: bfloat16 where it makes a step on this device faster by 15 %."""
    eval_every: Count = 1
    """Epochs between validations."""
    keep_epochs: tuple[Count, ...] = ()
    """Epochs whose whole state is kept, in kept/epoch-NNN.pt."""
    ticket: Path | None = None
    """A kept state: train only the weights on its support."""
    ticket_masks: Literal[tickets.MASKS] = "support"
    """The support itself; random, as many in every layer; even, at random, the same share of every
    layer; or magnitude, as many of the state's largest weights."""
    rewind: Path | None = None
    """A kept state: begin from its weights; none: from this seed's initial ones."""

    grow_tau: Share | None = None
    """Widen a layer when this share of its filters is selected; none: keep the widths."""
    grow_every: Count = 10
    """Epochs between looks at the layers."""
    grow_until: CountOrZero = 100
    """Last epoch at which layers grow."""
    grow_factor: Annotated[float, Interval(1)] = 1.1
    """Width of a grown layer over its old width, if that is more than --grow-at-least filters."""
    grow_at_least: CountOrZero = 4
    """Filters that a layer grows by at least."""

    seed: Seed = 0
    """Seed of the initial weights, the order of images and the augmentation."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; none takes the first GPU if there is one."""

    def __post_init__(self):
        super().__post_init__()
        late = [epoch for epoch in self.keep_epochs if epoch > self.epochs]
        why = f"there are {self.epochs:,} epochs"
        checks.require(not late, "keep_epochs", late, why)
        growing = self.grow_tau is not None
        possible = self.optimizer == "dessilbi" and self.ticket is None
        why = "needs --optimizer dessilbi and no --ticket"
        checks.require(possible or not growing, "grow_tau", self.grow_tau, why)


DIGITS = Config(
    epochs=100, drop_every=70, batch_size=64, lr=0.05, nu=10.0, threshold=0.1, scale_by_size=True
)
CIFAR = {  # λ = 0.1 or 0.05 times the root of a filter's size: the authors' lottery examples
    "dataset": "cifar10",
    "standardise": True,
    "augment": True,
    "nu": 100.0,
    "scale_by_size": True,
    "weight_decay": 1e-4,
    "drop_every": 60,
    "drop_factor": 0.2,
    "epochs": 200,
    "eval_every": 5,
}
PRESETS = {
    "digits": DIGITS,
    "mnist-lenet": Config(dataset="mnist"),
    "cifar10-vgg": Config(model="vgg16", threshold=0.05, **CIFAR),
    "cifar10-resnet": Config(model="resnet56", threshold=0.1, **CIFAR),
    "cifar10-resnet20": Config(  # for one CPU core: three weights of ten
        model="resnet20",
        penalty="l1",
        threshold=0.1,
        lr_gamma=0.3,
        target_density=0.3,
        schedule="cosine",
        **CIFAR | {"scale_by_size": False, "weight_decay": 5e-4, "epochs": 24, "eval_every": 4},
    ),
}


def main(config, preset):
    """Train and report; returns the summary."""
    plots.use(config.figures)
    memory.keep_freed()
    device = batches.choose_device(config.device)
    data_set = config.load(images=config.images, val_fraction=config.val_fraction)
    # Impossible settings are refused before any file is written.
    data_set.require(classes=2, test=1)
    fresh = loop.prepare(config, data_set, device)
    loop.steps_per_epoch(config, data_set)
    if config.ticket is not None:
        tickets.ticket_masks(config, fresh.model, device)
    if config.rewind is not None:
        tickets.rewind(config, fresh.model, device)
    run = Run.of(
        "train", preset, config, data_set, not_identity=NOT_IDENTITY, files=("ticket", "rewind")
    )
    if run.summary() is None:
        _say_idle(config, PRESETS.get(preset, Config()), data_set)
        config = with_precision(config, data_set, fresh.model, run)
        trained = loop.train(config, data_set, run, device)
        report(config, data_set, run, trained, device)
    show(run)
    rows = [{"weights": name, **row} for name, row in run.summary()["test"].items()]
    tables.write(run.path("table"), rows, config.table)
    return run.summary()


def with_precision(config, data_set, model, run):
    """`config` with the precision that its auto means here, kept in the run's folder; the model is
    changed."""
    images = batches.on_device(data_set.train, next(model.parameters()).device)
    batch = batches.normalisation(images, config.standardise)(images.pixels[: config.batch_size])
    labels = images.labels[: config.batch_size]
    measured = partial(step_seconds, model, batch, labels)
    name = precision.chosen(config.precision, run.path("precision.json"), measured)
    return replace(config, precision=name)


def _say_idle(config, usual, data_set):
    """Flags that were given and do nothing in this combination."""
    rule = config.base if config.optimizer == "dessilbi" else config.optimizer
    own = ("base", "kappa", "nu", "lr_gamma", "coupling", "threshold", "scale_by_size")
    growth = ("grow_every", "grow_until", "grow_factor", "grow_at_least")
    plain = config.optimizer != "dessilbi"
    rules = (
        (plain, (*own, "gamma_adaptive", "target_density"), f"with --optimizer {config.optimizer}"),
        (rule not in ("sgd", "rmsprop"), ("momentum",), f"with {rule}"),
        (
            config.schedule != "step",
            ("drop_every", "drop_factor"),
            f"with --schedule {config.schedule}",
        ),
        (config.grow_tau is None, growth, "without --grow-tau"),
        (config.ticket is None, ("ticket_masks",), "without --ticket"),
        (not len(data_set.val), ("eval_every",), "without validation images"),
    )
    checks.say_idle(config, usual, rules)


def report(config, data_set, run, trained, device):
    """Evaluate on test, draw, and write summary.json."""
    train_images = batches.on_device(data_set.train, device)
    normalise = batches.normalisation(train_images, config.standardise)
    test = batches.on_device(data_set.test, device)

    def accuracies(images):
        model, optimizer = trained.model, trained.optimizer
        return evaluate.accuracies(
            model, optimizer, train_images, images, normalise, config.augment
        )

    results = {
        "dataset": data_set.name,
        "data_fingerprint": data_set.fingerprint,
        "train_images": len(train_images),
        "model": config.model,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "widths": trained.state()["widths"],
        "optimizer": config.optimizer,
        "base": config.base if config.optimizer == "dessilbi" else None,
        "epochs": config.epochs,
        "seed": config.seed,
        "precision": config.precision,
        "precision_seconds": precision.timed(run.path("precision.json")),
        "test": accuracies(test),
    }
    if len(data_set.val):
        val = batches.on_device(data_set.val, device)
        results["val"] = accuracies(val)
    if isinstance(trained.optimizer, DessiLBI):
        results["clock"] = trained.optimizer.param_groups[0]["clock"]
        results["layers"] = structure.layers(trained.optimizer)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    trained.recorder.save(run.path("path.npz"))
    figures.curves(run.path("figures", "curves.png"), run.rows())
    figures.path(run.path("figures", "path.png"), trained.recorder.arrays())
    if "layers" in results:
        figures.layers(run.path("figures", "structure.png"), results["layers"])
    run.write_summary(**results, device=kind, train_seconds=round(trained.seconds, 1))


def show(run):
    """Print what summary.json holds."""
    summary = run.summary()
    print(
        f"\n{summary['model']} on {summary['dataset']}, {counted(summary['epochs'], 'epoch')} in "
        f"{duration(summary['train_seconds'])}, seed {summary['seed']}, {summary['device']}"
    )
    names = {"w": "W", "w_on_support": "W on supp Γ", "gamma": "Γ itself"}
    for key, row in summary["test"].items():
        print(
            f"test accuracy, {names[key]:12s} {100 * row['accuracy']:6.2f} %"
            f"   density {row['density']:.3f}"
        )
    for row in summary.get("layers", ()):
        print(
            f"  {row['layer']:22s} {row['selected']:7,} of {row['groups']:7,} groups"
            f"   density {row['density']:.3f}"
        )
    print(f"\n{run.folder}: summary.json, path.npz, figures/, checkpoints/")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
