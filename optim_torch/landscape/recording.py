"""One network while it trains: its steps, its probes, and what they measured."""

import dataclasses
import time
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from groundfloor import precision, seeds
from groundfloor.errors import UserError, first_line
from groundfloor.pytorch import batches
from groundfloor.pytorch.autocast import autocast, step_seconds
from groundfloor.runs import Stopping
from optim_torch.landscape.curvature import Hessian, adam_scale, batch_sharpness
from optim_torch.landscape.probing import NoDirection, probe
from optim_torch.models.vgg_a import VGG_A_MODELS
from optim_torch.training.evaluate import accuracy

# Kept at each probe with `curvature`: of the Hessian; of P^-1/2 H P^-1/2 for Adam; g'Hg / |g|² of
# the batch; and the square of the length of all matrices and filters.
CURVATURE = ("largest", "preconditioned", "sharpness", "square")
POINT = ("loss", "change", "distance", "beta", "gradient", "cosine")  # kept of each probed point
BEFORE = {"precision": "float32"}  # settings of traces from before there was a choice
OPTIMIZERS = {
    "sgd": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate),
    "adam": lambda parameters, rate: torch.optim.Adam(parameters, lr=rate),
}


def build(config, spec, data_set):
    """The network of a trace, from its seed. ValueError for an unknown normaliser."""
    torch.manual_seed(spec.seed)
    height, _, channels = data_set.train.images.shape[1:]
    norm = None if spec.norm == "none" else spec.norm
    return VGG_A_MODELS[config.model](
        channels, data_set.num_classes, side=height, scale=config.scale, norm=norm
    )


def with_precision(config, spec, data_set, device, path):
    """`config` with the precision that auto means here for the network of a trace; path: as of
    `precision.chosen`."""
    if config.precision != "auto":
        return config
    model = build(config, spec, data_set).to(device, memory_format=torch.channels_last)
    images = batches.on_device(data_set.train.take(np.arange(config.batch_size)), device)
    inputs = batches.normalisation(images, standardise=True)(images.pixels)
    measured = partial(step_seconds, model, inputs, images.labels)
    name = precision.chosen(config.precision, path, measured)
    return dataclasses.replace(config, precision=name)


def has_diverged(losses, labels, accuracy, count):
    """Whether a network has diverged: its last loss is not finite, or it ended at chance.

    losses (steps,): of its training batches, nan after the end of a network that stopped early.
    labels: of the train images. accuracy: on `count` validation images (nan if there are none).

    At chance are both, the loss: its mean over the last tenth of the steps is not 1 % below the
    entropy of the labels, which the same answer for all images reaches; and the accuracy: it is
    not two standard errors above the share of the largest class. A network that has not begun to
    learn is there, too. With a single class chance is perfect: there only the first counts.
    """
    if not np.isfinite(losses[-1]):
        return True
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    entropy, most = -(shares * np.log(shares)).sum(), shares.max()
    end = losses[-max(1, len(losses) // 10) :].mean()
    guessed = not accuracy > most + 2 * np.sqrt(most * (1 - most) / max(1, count))
    return bool(0 < 0.99 * entropy < end and guessed)


class Recording:
    """Network, optimizer and what was recorded so far."""

    def __init__(self, config, spec, data_set, device, made_from):
        self.config, self.spec, self.made_from = config, spec, made_from
        self.images, self.val, self.test = (
            batches.on_device(split, device)
            for split in (data_set.train, data_set.val, data_set.test)
        )
        self.normalise = batches.normalisation(self.images, standardise=True)
        self.model = build(config, spec, data_set).to(device, memory_format=torch.channels_last)
        self.optimizer = OPTIMIZERS[config.optimizer](self.model.parameters(), spec.rate)
        self.step = 0
        self.rows = {n: np.full(config.steps, np.nan) for n in ("loss", "change", "moved")}
        probes = -(-config.steps // config.probe_every)
        shape = (probes, len(config.lengths))
        here = ("loss", "gradient", *(CURVATURE if config.curvature else ()))
        self.rows |= {f"here_{name}": np.full(probes, np.nan) for name in here}
        self.rows |= {f"point_{n}": np.full(shape, np.nan) for n in POINT}
        self.seconds = {"seconds": 0.0, "probe_seconds": 0.0}
        self.before = None  # weights and gradient of the step before

    @property
    def alive(self):
        """Whether the last loss was finite."""
        return self.step == 0 or bool(np.isfinite(self.rows["loss"][self.step - 1]))

    def advance(self, step):
        """One step of training, with its probe first if it is due."""
        began = time.monotonic()
        size, seed = self.config.batch_size, self.spec.seed
        pixels, labels = batches.batch(self.images, size, seed, step)
        batch = self.normalise(pixels), labels
        if self.step % self.config.probe_every == 0:
            self._probe(batch)
            self.seconds["probe_seconds"] += time.monotonic() - began
        self.model.train()
        with autocast(batch[0].device, self.config.precision):
            loss = F.cross_entropy(self.model(batch[0]).float(), batch[1])
        self.optimizer.zero_grad()
        loss.backward()
        now = [
            torch.cat([t.detach().flatten() for t in tensors])
            for tensors in (self.model.parameters(), [p.grad for p in self.model.parameters()])
        ]
        self.rows["loss"][self.step] = loss.item()
        if self.before is not None:
            for name, new, old in zip(("moved", "change"), now, self.before, strict=True):
                self.rows[name][self.step] = torch.linalg.vector_norm(new - old).item()
        self.before = now
        self.optimizer.step()
        self.step += 1
        self.seconds["seconds"] += time.monotonic() - began

    def _probe(self, batch):
        number = self.step // self.config.probe_every
        chance = seeds.fold(self.spec.seed, "direction", self.step)
        try:
            probed = probe(
                self.model,
                F.cross_entropy,
                batch,
                lengths=[multiple * self.spec.rate for multiple in self.config.lengths],
                direction=self.config.direction,
                optimizer=self.optimizer if self.config.direction == "optimizer" else None,
                generator=torch.Generator().manual_seed(chance),
            )
        except NoDirection:  # the row stays nan, and `arrays` counts it
            return
        self.rows["here_loss"][number] = probed.loss
        self.rows["here_gradient"][number] = probed.gradient
        for name in POINT:
            self.rows[f"point_{name}"][number] = [getattr(point, name) for point in probed.points]

        if self.config.curvature:
            self._measure_curvature(number, batch)

    def _measure_curvature(self, number, batch):
        images, size = self.images, self.config.batch_size
        parts = zip(
            images.pixels[: self.config.curvature].split(size),
            images.labels[: self.config.curvature].split(size),
            strict=True,
        )
        fixed = [(self.normalise(pixels), labels) for pixels, labels in parts if len(labels) > 1]
        hessian = Hessian(self.model, F.cross_entropy, fixed)
        found = {"largest": hessian.largest()}
        if self.config.optimizer == "adam" and self.step:
            scale = adam_scale(self.optimizer, hessian.parameters)
            found["preconditioned"] = hessian.largest(scale=scale)
        found["sharpness"] = batch_sharpness(self.model, F.cross_entropy, batch)
        matrices = [p for p in hessian.parameters if p.dim() > 1]
        found["square"] = sum(float(p.detach().double().square().sum()) for p in matrices)
        for name, value in found.items():
            self.rows[f"here_{name}"][number] = value

    def state(self):
        return {
            "made_from": self.made_from,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": {name: torch.from_numpy(values) for name, values in self.rows.items()},
            "seconds": self.seconds,
            "before": self.before,
        }

    def load(self, state, folder):
        """Go on as `state`, of a checkpoint in `folder`, says; None: from the start.

        UserError if it is of other settings, or is no state of such a network.
        """
        if state is None:
            return
        try:
            refuse_others(folder, state["made_from"], self.made_from)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds, self.before = state["step"], state["seconds"], state["before"]
            self.rows = {name: values.cpu().numpy() for name, values in state["rows"].items()}
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UserError(
                f"the checkpoint in {folder} does not fit this network ({first_line(error)}); "
                "move it away to begin anew"
            ) from None
        Stopping.kept = f"step {self.step:,} in {folder}"

    def arrays(self):
        """The whole trace, with accuracies of the network as it is now."""
        results, finite = (
            {},
            all(bool(t.isfinite().all()) for t in self.model.state_dict().values()),
        )
        for name, images in (("val", self.val), ("test", self.test)):
            results[name] = np.nan
            if finite and len(images):
                try:
                    results[name] = accuracy(self.model, images, self.normalise)
                except UserError:  # weights so large that its outputs are not finite
                    finite = False
        labels = self.images.labels.cpu().numpy()
        results["diverged"] = not finite or has_diverged(
            self.rows["loss"], labels, results["val"], len(self.val)
        )
        probed = np.arange(0, self.config.steps, self.config.probe_every)
        results["no_gradient"] = int(np.isnan(self.rows["here_loss"][probed < self.step]).sum())
        results |= {**self.seconds, "probed": probed, "lengths": self.config.lengths, **self.rows}
        return {name: np.asarray(values) for name, values in results.items()}


def refuse_others(path, held, wanted, advice="move it away or delete it"):
    """UserError, which ends in the advice, unless a file's settings are those wanted; those that it
    is too old to name are BEFORE."""
    held, wanted = {**BEFORE, **held}, {**BEFORE, **wanted}
    differing = [name for name in held | wanted if held.get(name) != wanted.get(name)]
    if differing:
        changes = ", ".join(f"{n} {held.get(n)} instead of {wanted.get(n)}" for n in differing)
        raise UserError(f"{path} is of other settings ({changes}); {advice}")
