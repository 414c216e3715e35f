"""Trials of the study: a setting and a seed each, trained with one budget, kept in two files."""

import functools
import shutil
import time
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from groundfloor import kept, precision, seeds
from groundfloor.errors import UserError
from groundfloor.pytorch import batches, checkpoints
from groundfloor.pytorch.autocast import autocast, step_seconds
from groundfloor.pytorch.steps import training_steps
from groundfloor.runs import Stopping, content_hash, read_json, write_json
from optim_torch.dessilbi import structure
from optim_torch.dessilbi.optimizer import DessiLBI
from optim_torch.models.conv_net import ConvNet
from optim_torch.study import losses
from optim_torch.study.averaging import Lookahead, answering
from optim_torch.training import adamw
from optim_torch.training.evaluate import accuracy

WARM_UP = 0.2  # share of the steps in which the rate rises
EVALUATED = 250  # images at a time: more do not fit into a CPU's caches
CHECKS = 40  # looks at the loss, which make a GPU wait; points of the curve
WHITENED = 5000  # training images that a whitening layer is made from
AUGMENT = {"none": False, "crop": True, "alternating": "alternating"}
PARTS = ("bn", "residual", "dropout")
RATES = {  # usual learning rates, multiplied by Setting.rate
    "sgd": 0.1,
    "nesterov": 0.1,
    "adam": 3e-3,
    "adamw": 3e-3,
    "adamw-hand": 3e-3,
    "rmsprop": 1e-3,
    "dessilbi": 0.1,
}


@dataclass(frozen=True)
class Setting:
    """What the study varies; the fields of `study.Config` by the same names."""

    width: float
    loss: str
    activation: str
    optimizer: str
    block: str
    rate: float  # times the optimizer's usual one

    def stem(self, seed):
        """Of the files of its trial."""
        return "_".join([*map(str, asdict(self).values()), f"s{seed}"])


@dataclass(frozen=True, eq=False)
class Data:
    """All images on the device."""

    train: batches.Images
    val: batches.Images
    test: batches.Images
    normalise: batches.Normalisation
    classes: int

    @property
    def shape(self):
        """(height, width, channels)."""
        _, channels, height, width = self.train.pixels.shape
        return height, width, channels

    def batch(self, config, seed, step):
        """Augmented training images of a step and their labels: a function of (seed, step)."""
        augment = AUGMENT[config.augment]
        return batches.batch(self.train, config.batch_size, seed, step, augment)

    def inputs(self, pixels):
        """uint8 (n, c, h, w) -> standardised float32, channels last in memory."""
        return self.normalise(pixels).contiguous(memory_format=torch.channels_last)


def on_device(data_set, device):
    """A `groundfloor.data.datasets` data set as `Data`, standardised by its training images."""
    splits = [batches.on_device(s, device) for s in (data_set.train, data_set.val, data_set.test)]
    return Data(*splits, batches.normalisation(splits[0], True), data_set.num_classes)


def build(config, setting, seed, data):
    """The network of a trial with the initial weights of its seed; UserError if there is none.

    With another `bias_rate` than 1 the scales of BatchNorm stay at one.
    """
    torch.manual_seed(seeds.fold(seed, "weights"))
    parts = parsed_block(setting.block)
    try:
        model = ConvNet(
            config.layers,
            data.shape,
            data.classes,
            scale=setting.width,
            activation=setting.activation,
            norm="bn" in parts,
            residual="residual" in parts,
            dropout=config.dropout if "dropout" in parts else 0.0,
            logit_scale=config.logit_scale,
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    model.whiten(data.inputs(data.train.pixels[:WHITENED]).cpu())
    if config.bias_rate != 1:
        for module in model.modules_of(nn.BatchNorm2d):
            module.weight.requires_grad_(False)
    return model


def parsed_block(name):
    """ "bn+residual" -> {"bn", "residual"}, "plain" -> {}; ValueError for unknown parts."""
    parts = [] if name == "plain" else name.split("+")
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r}; blocks: plain, or of {'+'.join(PARTS)}")
    return frozenset(parts)


def with_precision(config, setting, data, path):
    """`config` with the precision that auto means here for a setting; path: as of
    `precision.chosen`."""
    device = data.train.pixels.device
    model = build(config, setting, 0, data).to(device, memory_format=torch.channels_last).train()
    pixels, labels = data.batch(config, 0, 0)
    measured = functools.partial(step_seconds, model, data.inputs(pixels), labels)
    name = precision.chosen(config.precision, path, measured)
    return replace(config, precision=name)


def make_optimizer(config, setting, model):
    """The optimizer of a trial and the regularisers that are left to `losses.regularise`.

    AdamW does L2 in its own, decoupled way: by weight decay. BatchNorm's biases have `bias_rate`
    times the rate of all else.
    """
    rate = setting.rate * RATES[setting.optimizer]
    kinds = losses.parse(setting.loss)[1]
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    shifts = {id(norm.bias) for norm in model.modules_of(nn.BatchNorm2d)}
    matrices = {"params": [(name, p) for name, p in named if p.dim() > 1]}
    vectors = [
        {"params": [(n, p) for n, p in named if p.dim() <= 1 and id(p) not in shifts]},
        {"params": [(n, p) for n, p in named if id(p) in shifts], "lr": rate * config.bias_rate},
    ]
    vectors = [group for group in vectors if group["params"]]
    if setting.optimizer == "dessilbi":
        groups = [matrices, *(group | {"penalty": "none"} for group in vectors)]
        optimizer = DessiLBI(
            groups,
            rate,
            nu=config.nu,
            lr_gamma=RATES["dessilbi"],  # so that the search of rates leaves the path its speed
            threshold=config.threshold,
            scale_by_size=True,
            momentum=0.9,
            nesterov=True,
        )
    elif setting.optimizer in ("adamw", "adamw-hand"):
        decay = config.decoupled / rate if kinds & {"l2", "decoupled"} else 0.0
        kinds = kinds - {"l2", "decoupled"}
        groups = [matrices, *(group | {"weight_decay": 0.0} for group in vectors)]
        made = torch.optim.AdamW if setting.optimizer == "adamw" else adamw.AdamW
        optimizer = made(groups, rate, weight_decay=decay)
    else:
        made, options = {
            "sgd": (torch.optim.SGD, {}),
            "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
            "adam": (torch.optim.Adam, {}),
            "rmsprop": (torch.optim.RMSprop, {}),
        }[setting.optimizer]
        optimizer = made([matrices, *vectors], rate, **options)
    return optimizer, kinds


def schedule(step, steps):
    """Factor of the learning rate: up in a line for a fifth of the steps, then down to zero."""
    warm = WARM_UP * steps
    return min((step + 1) / max(warm, 1), 1, (steps - step) / (steps - warm))


class Trainer:
    """(setting, seed) -> row of that trial, trained unless its file is there."""

    def __init__(self, config, data, run, progress):
        self.config, self.data, self.run, self.progress = config, data, run, progress
        self.rows = {}

    def __call__(self, setting, seed):
        key = (setting, seed)
        if key not in self.rows:
            before = self.progress.done
            self.rows[key] = self._kept(setting, seed) or self._train(setting, seed)
            if rest := self.config.steps - (self.progress.done - before):  # diverged, or from file
                self.progress.advance(rest)
            Stopping.kept = f"{len(self.rows)} finished networks in {self.run.folder}"
        return self.rows[key]

    def network(self, setting, seed):
        """The trained network, in evaluation mode."""
        state = checkpoints.read(self._path(setting, seed, "pt"), self.data.train.pixels.device)
        model = build(self.config, setting, seed, self.data)
        model = model.to(self.data.train.pixels.device, memory_format=torch.channels_last)
        model.load_state_dict(state)
        return model.eval()

    def test(self, setting, seed):
        """Accuracy on test, of 1; None where training diverged."""
        if self(setting, seed)["diverged"]:
            return None
        model = self.network(setting, seed)
        return evaluated(self.config, model, self.data.test, self.data)

    def _kept(self, setting, seed):
        """The row of a finished trial whose weights are as they were, or None."""
        path, weights = (self._path(setting, seed, suffix) for suffix in ("json", "pt"))
        if not path.exists():
            return None
        row = read_json(path)
        if weights.exists() and content_hash(weights) == row["weights"]:
            return row
        self.progress.say(f"{weights} is damaged or missing: this trial is trained anew")
        return None

    def _train(self, setting, seed):
        model, row = train(
            self.config,
            setting,
            seed,
            self.data,
            lambda steps: self.progress.advance(steps, trial=setting.stem(seed)),
            folder=self.run.path("unfinished", setting.stem(seed)),
        )
        path, weights = (self._path(setting, seed, suffix) for suffix in ("json", "pt"))
        checkpoints.write(weights, model.state_dict())
        row["weights"] = content_hash(weights)
        write_json(path, row)  # last: it says that the trial is finished
        shutil.rmtree(self.run.path("unfinished", setting.stem(seed)), ignore_errors=True)
        return row

    def _path(self, setting, seed, suffix):
        return self.run.path("cells", f"{setting.stem(seed)}.{suffix}")


def evaluated(config, model, images, data):
    """Accuracy of a network on images, of 1, by its `Views` if the settings say so."""
    device = images.pixels.device
    with autocast(device, config.precision):
        return accuracy(answering(config, model), images, data.inputs, EVALUATED)


def train(config, setting, seed, data, advance=lambda steps: None, evaluate=True, folder=None):
    """Train a trial, or go on with it; returns (network, row).

    row: JSON-able; "val", the accuracy on validation, of 1, None where training diverged;
    "diverged", the step by which the loss was not finite, or None; "seconds" of training alone;
    "density" of Γ or None; and "curve", pairs of a step and the accuracy on the training batches
    since the pair before. All chance of a step is a function of (seed, step).
    advance(steps): called after each part. evaluate: False spares the validation. folder: of
    checkpoints; none keeps none.
    """
    device, steps = data.train.pixels.device, config.steps
    model = build(config, setting, seed, data).to(device, memory_format=torch.channels_last)
    optimizer, kinds = make_optimizer(config, setting, model)
    loss_of, _ = losses.parse(setting.loss)
    if loss_of is losses.smoothing:
        loss_of = functools.partial(losses.smoothing, share=config.smoothing)
    strengths = {"l2": config.l2, "decoupled": config.decoupled, "l1": config.l1}
    weights = [p for p in model.parameters() if p.dim() > 1 and p.requires_grad]
    rates = [group["lr"] for group in optimizer.param_groups]
    every, curve, diverged = max(1, steps // CHECKS), [], None
    loss_sum, hits, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
    lookahead = Lookahead(model) if config.lookahead else None
    first = 0
    began = time.monotonic()
    if folder is not None and (last := checkpoints.newest(folder, device)):
        first, curve = last["step"], last["curve"]
        model.load_state_dict(last["model"])
        optimizer.load_state_dict(last["optimizer"])
        if lookahead:
            lookahead.slow = last["slow"]
        began -= last["seconds"]
        kept.remember(folder, first)
        advance(first)

    def state():
        return {
            "step": step + 1,
            "curve": curve,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "slow": lookahead and lookahead.slow,
            "seconds": time.monotonic() - began,
        }

    model.train()
    for step, look in training_steps(first, steps, every=every, folder=folder, state=state):
        factor = schedule(step, steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        pixels, labels = data.batch(config, seed, step)
        inputs = cutout(data.inputs(pixels), config.cutout)
        with autocast(device, config.precision):
            logits = model(inputs)
        loss = loss_of(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        losses.regularise(weights, kinds, strengths, factor)
        optimizer.step()
        if lookahead:
            lookahead.update(model, step, steps)
        loss_sum += loss.detach()
        hits += (logits.detach().argmax(1) == labels).sum()
        seen += len(labels)
        if look:
            curve.append([step + 1, float(hits) / seen])
            hits, seen = torch.zeros_like(hits), 0
            if not torch.isfinite(loss_sum):
                diverged = step + 1
                break
            advance(step % every + 1)
    seconds = time.monotonic() - began
    val = None
    if evaluate and not diverged:
        try:
            val = evaluated(config, model, data.val, data)
        except UserError:  # the last update was too much: no loss after it tells
            diverged = steps
    row = {
        **asdict(setting),
        "seed": seed,
        "val": val,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "density": structure.density(optimizer) if setting.optimizer == "dessilbi" else None,
        "diverged": diverged,
        "curve": curve,
    }
    return model, row


def cutout(inputs, side):
    """A square of each image set to zero, its centre anywhere (DeVries and Taylor 2017).

    inputs (n, c, h, w) -> the same shape; drawn from the device's random state. side: 0 for none.
    """
    if not side:
        return inputs
    n, _, height, width = inputs.shape
    draw = {"device": inputs.device}
    top = torch.randint(0, height, (n, 1), **draw) - side // 2
    left = torch.randint(0, width, (n, 1), **draw) - side // 2
    rows, columns = torch.arange(height, **draw), torch.arange(width, **draw)
    in_rows = (rows >= top) & (rows < top + side)
    in_columns = (columns >= left) & (columns < left + side)
    return inputs.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)
