"""Train one network and record its landscape on the way: a trace.

At every step the loss, and how far weights and gradient went since the step before (the course's
distance); every few steps a `probe` along a line (the paper's).
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from common import batches, checkpoints
from common.runs import Progress, atomic
from optim_torch.evaluate import accuracy
from optim_torch.models.vgg_a import VGG_A_MODELS
from optim_torch.probe import probe

SECONDS_BETWEEN_CHECKPOINTS = 30
POINT = ("loss", "change", "distance", "beta", "gradient", "cosine")  # kept of each probed point


@dataclass(frozen=True)
class Spec:
    """Which network is trained: its normaliser ("none": plain), learning rate and seed."""

    norm: str
    rate: float
    seed: int

    @property
    def stem(self):
        """Of its files."""
        return f"{self.norm}-r{self.rate:g}-s{self.seed}"


def specs(settings):
    """Every network of some settings: normalisers, then rates, then seeds."""
    return [
        Spec(norm, rate, seed)
        for norm in settings.norms
        for rate in settings.rates
        for seed in settings.seeds
    ]


def record_all(settings, data_set, device, folder):
    """dict of Spec -> trace: those in `folder` are read, the others trained and written there."""
    wanted = specs(settings)
    with Progress(len(wanted) * settings.steps, "step") as progress:
        return {spec: record(settings, spec, data_set, device, folder, progress) for spec in wanted}


def build(config, spec, data_set):
    """The network of a trace, from its seed. ValueError for an unknown normaliser."""
    torch.manual_seed(spec.seed)
    height, _, channels = data_set.train.images.shape[1:]
    norm = None if spec.norm == "none" else spec.norm
    return VGG_A_MODELS[config.model](
        channels, data_set.num_classes, side=height, scale=config.scale, norm=norm
    )


def record(config, spec, data_set, device, folder, progress):
    """Train and probe; returns the trace, a dict of arrays, also written as folder/STEM.npz.

    loss, change, moved (steps,): loss, |g_i - g_(i-1)| and |w_i - w_(i-1)|, nan where there is
    none. probed (P,): steps. here_loss, here_gradient (P,), and point_loss, point_change ... (P,
    lengths). val, test: accuracy, of 1. seconds, probe_seconds. A network that diverges leaves nan
    from there on. A stopped trace goes on from its last checkpoint, bit for bit.
    """
    path = folder / f"{spec.stem}.npz"
    if path.exists():
        progress.advance(config.steps)
        with np.load(path) as arrays:
            return dict(arrays)
    trace = _Trace(config, spec, data_set, device)
    kept = folder / spec.stem
    trace.load(checkpoints.newest(kept, device))
    progress.advance(trace.step)
    saved = time.monotonic()
    while trace.step < config.steps and trace.alive:
        trace.advance()
        progress.advance(1, loss=f"{spec.stem} {trace.rows['loss'][trace.step - 1]:.4f}")
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            checkpoints.save(kept, trace.step, trace.state())
            saved = time.monotonic()
    progress.advance(config.steps - trace.step)
    arrays = trace.arrays()
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    for checkpoint in kept.glob("*.pt"):
        checkpoint.unlink()
    return arrays


class _Trace:
    """Network, optimizer and what was recorded so far."""

    def __init__(self, config, spec, data_set, device):
        self.config, self.spec = config, spec
        self.images, self.val, self.test = (
            batches.on_device(split, device)
            for split in (data_set.train, data_set.val, data_set.test)
        )
        self.normalise = batches.normalisation(self.images, standardise=True)
        self.model = build(config, spec, data_set).to(device, memory_format=torch.channels_last)
        self.optimizer = OPTIMIZERS[config.optimizer](self.model.parameters(), spec.rate)
        self.step, self.alive = 0, True
        self.rows = {n: np.full(config.steps, np.nan) for n in ("loss", "change", "moved")}
        probes = -(-config.steps // config.probe_every)
        shape = (probes, len(config.lengths))
        self.rows |= {f"here_{n}": np.full(probes, np.nan) for n in ("loss", "gradient")}
        self.rows |= {f"point_{n}": np.full(shape, np.nan) for n in POINT}
        self.seconds = {"seconds": 0.0, "probe_seconds": 0.0}
        self.before = None  # weights and gradient of the step before

    def advance(self):
        """One step of training, with its probe first if it is due."""
        began = time.monotonic()
        rows = batches.rows(len(self.images), self.config.batch_size, self.spec.seed, self.step)
        rows = rows.to(self.images.pixels.device)
        batch = self.normalise(self.images.pixels[rows]), self.images.labels[rows]
        if self.step % self.config.probe_every == 0:
            self._probe(batch)
            self.seconds["probe_seconds"] += time.monotonic() - began
        self.model.train()
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.optimizer.zero_grad()
        loss.backward()
        now = [
            torch.cat([t.detach().flatten() for t in tensors])
            for tensors in (
                self.model.parameters(),
                [p.grad for p in self.model.parameters()],
            )
        ]
        self.rows["loss"][self.step] = loss.item()
        if self.before is not None:
            for name, new, old in zip(("moved", "change"), now, self.before, strict=True):
                self.rows[name][self.step] = torch.linalg.vector_norm(new - old).item()
        self.before = now
        self.optimizer.step()
        self.step += 1
        self.alive = bool(np.isfinite(self.rows["loss"][self.step - 1]))
        self.seconds["seconds"] += time.monotonic() - began

    def _probe(self, batch):
        number = self.step // self.config.probe_every
        try:
            found = probe(
                *(self.model, F.cross_entropy, batch),
                lengths=[multiple * self.spec.rate for multiple in self.config.lengths],
                direction=self.config.direction,
                optimizer=self.optimizer if self.config.direction == "optimizer" else None,
                generator=torch.Generator().manual_seed(self.step),
            )
        except ValueError:  # no gradient to go along, or none that is finite: the row stays nan
            return
        self.rows["here_loss"][number] = found.loss
        self.rows["here_gradient"][number] = found.gradient
        for name in POINT:
            self.rows[f"point_{name}"][number] = [getattr(point, name) for point in found.points]

    def state(self):
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": {name: torch.from_numpy(values) for name, values in self.rows.items()},
            "seconds": self.seconds,
            "before": self.before,
        }

    def load(self, state):
        """Go on as `state` says; None: from the start."""
        if state is None:
            return
        self.step, self.seconds, self.before = state["step"], state["seconds"], state["before"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows = {name: values.cpu().numpy() for name, values in state["rows"].items()}

    def arrays(self):
        """The whole trace, with accuracies of the network as it is now; 0 if it diverged."""
        found = {}
        for name, images in (("val", self.val), ("test", self.test)):
            known = self.alive and len(images)
            found[name] = accuracy(self.model, images, self.normalise) if known else 0.0
        probed = np.arange(0, self.config.steps, self.config.probe_every)
        return {
            **{name: np.asarray(v) for name, v in {**found, **self.seconds}.items()},
            **{"probed": probed, "lengths": np.asarray(self.config.lengths), **self.rows},
        }


OPTIMIZERS = {
    "sgd": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate),
    "adam": lambda parameters, rate: torch.optim.Adam(parameters, lr=rate),
}
