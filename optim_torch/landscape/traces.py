"""Train one network and record its landscape on the way: a trace.

At every step the loss, and how far weights and gradient went since the step before (the course's
distance); every few steps a `probe` along a line (the paper's).
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass

from groundfloor import npz
from groundfloor.errors import UserError
from groundfloor.pytorch import checkpoints
from groundfloor.pytorch.steps import training_steps
from groundfloor.runs import Progress, Stopping
from optim_torch.landscape.recording import Recording, refuse_others
from optim_torch.landscape.settings import NOT_IDENTITY


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
    with npz.reading(path, "a trace") as arrays:
        settings = json.loads(str(arrays.pop("metadata", "null")))
    if not isinstance(settings, dict) or not {"norm", "rate", "seed"} <= settings.keys():
        raise UserError(
            f"{path} does not say what it was made from (older versions' traces do not); delete it"
        )
    return settings, arrays


def record(config, spec, data_set, device, folder, progress):
    """Train and probe; returns the trace, a dict of arrays, also written as folder/STEM.npz.

    loss, change, moved (steps,): loss, |g_i - g_(i-1)| and |w_i - w_(i-1)|, nan where there is
    none. probed (P,): steps. here_loss, here_gradient (P,), and point_loss, point_change ... (P,
    lengths): nan where there was no gradient to go along, `no_gradient` times. val, test: accuracy,
    of 1; nan without images, or of a network without finite weights. diverged: see
    `recording.has_diverged`. seconds, probe_seconds. A network whose loss is not finite leaves nan
    from there on. A stopped trace goes on from its last checkpoint, bit for bit. UserError if files
    are of other settings.
    """
    path = folder / f"{spec.stem}.npz"
    wanted = made_from(config, spec, data_set)
    if path.exists():
        held, arrays = read(path)
        refuse_others(path, held, wanted)
        Stopping.kept = f"{spec.stem} in {folder}"
        progress.advance(config.steps)
        return arrays
    trace = Recording(config, spec, data_set, device, wanted)
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
    npz.write(path, {"metadata": json.dumps(wanted), **arrays}, compressed=True)
    Stopping.kept = f"{spec.stem} in {folder}"
    shutil.rmtree(kept, ignore_errors=True)
    return arrays
