"""Train one network and record its landscape on the way: a trace.

At every step the loss, and how far weights and gradient went since the step before (the course's
distance); every few steps a `probe` along a line (the paper's).
"""

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from groundfloor import seeds
from groundfloor.data.split import first_line
from groundfloor.errors import UserError
from groundfloor.pytorch import batches, checkpoints
from groundfloor.pytorch.steps import training_steps
from groundfloor.runs import Progress, Stopping, atomic
from optim_torch.landscape.probing import NoDirection, probe
from optim_torch.landscape.settings import NOT_IDENTITY
from optim_torch.models.vgg_a import VGG_A_MODELS
from optim_torch.training.evaluate import accuracy

POINT = ("loss", "change", "distance", "beta", "gradient", "cosine")  # kept of each probed point


@dataclass(frozen=True)
class Spec:
    """Which network is trained: its normaliser ("none": plain), learning rate and seed."""

    norm: str
    rate: float
    seed: int

    @property
    def stem(self):
        """Of its files: another for every other network. It is not read back; `read` reads."""
        return f"{self.norm}-r{float(self.rate)!r}-s{self.seed}"


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


def made_from(config, spec, data_set):
    """All that decides a trace, as its file's metadata hold it: dict of JSON's kinds."""
    apart = (*NOT_IDENTITY, "norms", "rates", "seeds")
    shared = {k: v for k, v in dataclasses.asdict(config).items() if k not in apart}
    whole = {**dataclasses.asdict(spec), **shared, "data_fingerprint": data_set.fingerprint}
    return json.loads(json.dumps(whole))


def read(path):
    """(settings, trace) of a trace's file: `made_from`, and arrays as in `record`.

    UserError, in one line, if it cannot be read, is damaged, or does not say what it is.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
        settings = json.loads(str(arrays.pop("metadata", "null")))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # of zip, zlib, NumPy or JSON: as many kinds as there is damage
        raise UserError(f"{path} is damaged ({first_line(error)}); delete it") from None
    if not isinstance(settings, dict) or not {"norm", "rate", "seed"} <= settings.keys():
        raise UserError(
            f"{path} does not say what it was made from (older versions' traces do not); delete it"
        )
    return settings, arrays


def refuse_others(path, found, wanted, advice="move it away or delete it"):
    """UserError, which ends in the advice, unless a file's settings are those wanted."""
    differing = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    if differing:
        changes = ", ".join(f"{n} {found.get(n)} instead of {wanted.get(n)}" for n in differing)
        raise UserError(f"{path} is of other settings ({changes}); {advice}")


def record(config, spec, data_set, device, folder, progress):
    """Train and probe; returns the trace, a dict of arrays, also written as folder/STEM.npz.

    loss, change, moved (steps,): loss, |g_i - g_(i-1)| and |w_i - w_(i-1)|, nan where there is
    none. probed (P,): steps. here_loss, here_gradient (P,), and point_loss, point_change ... (P,
    lengths): nan where there was no gradient to go along, `no_gradient` times. val, test: accuracy,
    of 1; nan without images, or of a network without finite weights. diverged: see `has_diverged`.
    seconds, probe_seconds. A network whose loss is not finite leaves nan from there on. A stopped
    trace goes on from its last checkpoint, bit for bit. UserError if files are of other settings.
    """
    path = folder / f"{spec.stem}.npz"
    wanted = made_from(config, spec, data_set)
    if path.exists():
        found, arrays = read(path)
        refuse_others(path, found, wanted)
        Stopping.kept = f"{spec.stem} in {folder}"
        progress.advance(config.steps)
        return arrays
    trace = _Trace(config, spec, data_set, device)
    kept = folder / spec.stem
    trace.load(checkpoints.newest(kept, device, progress.say), kept)
    progress.advance(trace.step)
    for step, _ in training_steps(
        trace.step, config.steps, every=1, folder=kept, state=trace.state
    ):
        if not trace.alive:
            break
        trace.advance(step)
        progress.advance(1, loss=f"{spec.stem} {trace.rows['loss'][step]:.4f}")
    progress.advance(config.steps - trace.step)
    arrays = trace.arrays()
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, metadata=json.dumps(wanted), **arrays)
    Stopping.kept = f"{spec.stem} in {folder}"
    shutil.rmtree(kept, ignore_errors=True)
    return arrays


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


class _Trace:
    """Network, optimizer and what was recorded so far."""

    def __init__(self, config, spec, data_set, device):
        self.config, self.spec = config, spec
        self.made_from = made_from(config, spec, data_set)
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
        self.rows |= {f"here_{n}": np.full(probes, np.nan) for n in ("loss", "gradient")}
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
        self.seconds["seconds"] += time.monotonic() - began

    def _probe(self, batch):
        number = self.step // self.config.probe_every
        chance = seeds.fold(self.spec.seed, "direction", self.step)
        try:
            found = probe(
                *(self.model, F.cross_entropy, batch),
                lengths=[multiple * self.spec.rate for multiple in self.config.lengths],
                direction=self.config.direction,
                optimizer=self.optimizer if self.config.direction == "optimizer" else None,
                generator=torch.Generator().manual_seed(chance),
            )
        except NoDirection:  # the row stays nan, and `arrays` counts it
            return
        self.rows["here_loss"][number] = found.loss
        self.rows["here_gradient"][number] = found.gradient
        for name in POINT:
            self.rows[f"point_{name}"][number] = [getattr(point, name) for point in found.points]

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
        found, finite = {}, all(bool(t.isfinite().all()) for t in self.model.state_dict().values())
        for name, images in (("val", self.val), ("test", self.test)):
            found[name] = np.nan
            if finite and len(images):
                try:
                    found[name] = accuracy(self.model, images, self.normalise)
                except UserError:  # weights so large that its outputs are not finite
                    finite = False
        labels = self.images.labels.cpu().numpy()
        found["diverged"] = not finite or has_diverged(
            self.rows["loss"], labels, found["val"], len(self.val)
        )
        probed = np.arange(0, self.config.steps, self.config.probe_every)
        found["no_gradient"] = int(np.isnan(self.rows["here_loss"][probed < self.step]).sum())
        return {
            **{name: np.asarray(v) for name, v in {**found, **self.seconds}.items()},
            **{"probed": probed, "lengths": np.asarray(self.config.lengths), **self.rows},
        }


OPTIMIZERS = {
    "sgd": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate),
    "adam": lambda parameters, rate: torch.optim.Adam(parameters, lr=rate),
}
