"""Train a network with any optimizer: resumable to the bit, with DessiLBI's structure recorded."""

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from groundfloor import kept, seeds
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.pytorch import batches, checkpoints, masking
from groundfloor.pytorch.autocast import autocast
from groundfloor.pytorch.steps import training_steps
from groundfloor.runs import Progress, counted, duration, read_dict
from optim_torch.dessilbi import grow, structure
from optim_torch.dessilbi.optimizer import DessiLBI
from optim_torch.dessilbi.path import Recorder
from optim_torch.training import tickets
from optim_torch.training.build import SCHEDULES, build_model, build_optimizer, build_recorder
from optim_torch.training.evaluate import accuracy

LOOK_EVERY = 50  # steps between looks at the loss, which make a GPU wait


@dataclass
class Training:
    """All that changes while a network trains."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: lr_scheduler.LRScheduler
    recorder: Recorder
    step: int = 0
    loss_sum: float = 0.0  # since the epoch began
    best_loss: float = math.inf  # of an epoch
    seconds: float = 0.0

    def state(self):
        return {
            "step": self.step,
            "loss_sum": self.loss_sum,
            "best_loss": self.best_loss,
            "seconds": self.seconds,
            "widths": grow.widths(self.model) if type(self.model) in grow.CHAINS else None,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "recorder": self.recorder.state_dict(),
        }


def prepare(config, data_set, device, state=None):
    """A `Training` at its start, or as `state` says; UserError if that is of another network."""
    model = build_model(config, data_set, None if state is None else state.get("widths"))
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = build_optimizer(config, model)
    scheduler = SCHEDULES[config.schedule](optimizer, config)
    training = Training(model, optimizer, scheduler, build_recorder(config, model))
    if config.grow_tau is not None:
        _refuse_ungrowable(config, model)
    if state is not None:
        _restore(training, state)
    return training


def _restore(training, state):
    if missing := sorted(training.state().keys() - state.keys()):
        raise UserError(f"the kept state is of another version: it has no {missing[0]}")
    try:
        for part in ("model", "optimizer", "scheduler", "recorder"):
            getattr(training, part).load_state_dict(state[part])
    except (RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[-1].strip()  # torch's own title is no help
        raise UserError(f"the kept state does not fit this network ({why})") from None
    for name in ("step", "loss_sum", "best_loss", "seconds"):
        setattr(training, name, state[name])


def train(config, data_set, run, device):
    """Train, or go on, until the last epoch; returns the `Training`.

    Raises UserError, naming the step, if the loss is not finite any more.
    """
    folder = run.path("checkpoints")
    training = prepare(config, data_set, device, checkpoints.newest(folder, device))
    kept.remember(folder, training.step)
    run.forget_after(training.step)
    images, val = (batches.on_device(split, device) for split in (data_set.train, data_set.val))
    normalise = batches.normalisation(images, config.standardise)
    if config.rewind is not None and training.step == 0:
        tickets.rewind(config, training.model, device)
    if config.ticket is not None:
        masks = tickets.ticket_masks(config, training.model, device)
        masking.hold(training.optimizer, dict(training.model.named_parameters()), masks)
    epoch_steps = steps_per_epoch(config, data_set)
    total = config.epochs * epoch_steps
    if training.step == 0:
        training.recorder.record(0, training.optimizer)
    evaluated = len(data_set.val) * (config.epochs // config.eval_every) + 3 * len(data_set.test)
    _announce(config, training, images, normalise, total - training.step, evaluated)
    guessing = math.log(data_set.num_classes)
    began = time.monotonic() - training.seconds
    losses = []  # since the last look
    training.model.train()
    with Progress(total, "step", start=training.step) as progress:
        for step, look in training_steps(
            training.step,
            total,
            every=LOOK_EVERY,
            epoch=epoch_steps,
            folder=folder,
            state=training.state,
        ):
            losses.append(_train_step(config, training, images, normalise, step))
            if not look:
                continue
            loss = float(sum(losses))
            if not math.isfinite(loss):
                epoch = step // epoch_steps + 1
                raise UserError(
                    f"the loss is not finite by step {step + 1:,} (epoch {epoch}); lower --lr"
                )
            training.loss_sum += loss
            training.seconds = time.monotonic() - began
            progress.advance(len(losses), loss=f"{loss / len(losses):.4f}", **_headline(training))
            losses.clear()
            if training.step % epoch_steps == 0:
                epoch = training.step // epoch_steps
                _end_epoch(config, training, run, epoch, epoch_steps, normalise, val, guessing)
    return training


def _refuse_ungrowable(config, model):
    try:
        names = {name for name, _ in grow.chain(model)[:-1]}
    except ValueError as error:
        raise UserError(str(error)) from None
    if not names & set(config.layers or names):
        raise UserError(f"none of --layers can grow, only {', '.join(sorted(names))}")


def steps_per_epoch(config, data_set):
    """Full batches in an epoch; the images left over wait for another order."""
    steps = len(data_set.train) // config.batch_size
    if not steps:
        count = len(data_set.train)
        raise UserError(
            f"--batch-size {config.batch_size} exceeds the {counted(count, 'train image')}"
        )
    return steps


def _train_step(config, training, images, normalise, step):
    """One step; returns its loss, a tensor."""
    pixels, labels = batches.batch(images, config.batch_size, config.seed, step, config.augment)
    loss = loss_of(config, training.model, normalise(pixels), labels)
    training.optimizer.zero_grad()
    loss.backward()
    training.optimizer.step()
    training.step = step + 1
    return loss.detach()


def loss_of(config, model, inputs, labels):
    """Mean cross-entropy, in `config.precision`."""
    with autocast(inputs.device, config.precision):
        return F.cross_entropy(model(inputs), labels)


def _end_epoch(config, training, run, epoch, epoch_steps, normalise, val, guessing):
    row = {
        "step": training.step,
        "epoch": epoch,
        "lr": training.optimizer.param_groups[0]["lr"],
        "loss": training.loss_sum / epoch_steps,
    }
    training.loss_sum = 0.0
    if isinstance(training.optimizer, DessiLBI):
        row["clock"] = training.optimizer.param_groups[0]["clock"]
        row["density"] = structure.density(training.optimizer)
        row["selected"] = {r["layer"]: r["selected"] for r in structure.layers(training.optimizer)}
    if len(val) and (epoch % config.eval_every == 0 or epoch == config.epochs):
        row["val_accuracy"] = accuracy(training.model, val, normalise)
        training.model.train()
    training.scheduler.step()
    training.recorder.record(epoch, training.optimizer)
    if (
        config.grow_tau is not None
        and epoch % config.grow_every == 0
        and epoch <= config.grow_until
        and epoch < config.epochs  # what begins after the last step is never trained
    ):
        grown = grow.grow_where_full(
            training.model,
            training.optimizer,
            tau=config.grow_tau,
            growth=config.grow_factor,
            at_least=config.grow_at_least,
            generator=torch.Generator().manual_seed(seeds.fold(config.seed, "growth", epoch)),
        )
        row["grown"] = {name: list(widths) for name, widths in grown.items()}
        row["parameters"] = sum(p.numel() for p in training.model.parameters())
    run.log(**row)
    _stop_if_collapsed(training, row, guessing)
    if epoch in config.keep_epochs:
        checkpoints.write(run.path("kept", f"epoch-{epoch:03d}.pt"), training.state())


def _stop_if_collapsed(training, row, guessing):
    """Guessing again after having learned: with a strong coupling, layers can decay to zero."""
    if training.best_loss < 0.5 * guessing and row["loss"] > 0.9 * guessing:
        raise UserError(
            f"training collapsed in epoch {row['epoch']} (step {row['step']:,}): loss "
            f"{row['loss']:.2f} after {training.best_loss:.2f}; lower --lr or raise --nu"
        )
    training.best_loss = min(training.best_loss, row["loss"])


def _headline(training):
    if not isinstance(training.optimizer, DessiLBI):
        return {}
    return {"density": f"{structure.density(training.optimizer):.3f}"}


def load(folder, epoch=None, device="cpu", data_dir=None):
    """A run from its folder: (config, data set, `Training`) at its end or at a kept epoch.

    config: the settings as a namespace. data_dir: as for `datasets.load`; other images than
    the run's are refused (UserError).
    """
    folder, device = Path(folder), torch.device(device)
    keys = "model", "optimizer", "epochs"
    settings = read_dict(folder / "config.json", "settings of optim_torch.train", *keys)
    config = SimpleNamespace(**settings)
    data_set = datasets.load(
        config.dataset,
        data_dir,
        resolution=settings.get("resolution"),
        skip_damaged=settings.get("skip_damaged", False),
        images=config.images,
        val_fraction=config.val_fraction,
    )
    if data_set.fingerprint != config.data_fingerprint:
        raise UserError(f"{folder} was made from other images than {config.dataset} is there")
    if epoch is None:
        state = checkpoints.newest(folder / "checkpoints", device)
        if state is None:
            raise UserError(f"{folder} holds no checkpoint")
    else:
        state = checkpoints.read(folder / "kept" / f"epoch-{epoch:03d}.pt", device)
    return config, data_set, prepare(config, data_set, device, state)


def _announce(config, training, images, normalise, steps, evaluations):
    """What will be done, and how long steps of a copy say that it takes.

    evaluations: images that will be evaluated.
    """
    model, optimizer = copy.deepcopy((training.model, training.optimizer))
    batch = normalise(images.pixels[: config.batch_size])
    labels = images.labels[: config.batch_size]
    times, began = [], time.monotonic()
    while len(times) < 6 or (len(times) < 30 and time.monotonic() - began < 1):
        start = time.monotonic()
        optimizer.zero_grad()
        loss_of(config, model, batch, labels).backward()
        optimizer.step()
        if images.labels.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
    seconds = median(times[3:])  # the first ones warm up
    total = seconds * (steps + evaluations / (3 * config.batch_size))  # forwards alone are a third
    parameters = sum(p.numel() for p in model.parameters())
    rule = config.optimizer + (f" on {config.base}" if config.optimizer == "dessilbi" else "")
    print(
        f"training {config.model} ({parameters:,} parameters) with {rule} on {config.dataset}, "
        f"{len(images):,} images: {counted(config.epochs, 'epoch')} of "
        f"{config.batch_size} images a step"
    )
    print(f"on {images.labels.device}; about {duration(total)} to go", flush=True)
