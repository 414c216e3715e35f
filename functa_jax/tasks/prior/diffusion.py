"""A prior on latents: Gaussian diffusion, class-conditional, for every task that needs one.

    prior = train_prior(latents, labels, num_classes, PriorConfig(), seed=0, path="prior.npz")
    prior = load_prior("prior.npz")
    latents = prior.sample(10, labels=3, guidance=1.0)       # for functa.decode
    latents = prior.denoise(noisy, noise_level=0.5)          # their posterior mean
    noise = prior.encode_ddim(latents)                       # and back by prior.decode_ddim

How it works: diffusion_process.py; its network: diffusion_network.py; diffusion_training.py.
"""

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from functa_jax.model import siren
from functa_jax.tasks.prior import diffusion_training
from functa_jax.tasks.prior.diffusion_network import PriorConfig, fresh, graph
from functa_jax.tasks.prior.diffusion_process import (
    HALF_TURN,
    SMALLEST,
    guided,
    unmix,
    walk_down,
    walk_up,
)
from functa_jax.training import devices
from functa_jax.training.batches import in_batches
from groundfloor import npz, seeds
from groundfloor.errors import UserError
from groundfloor.runs import Stopping, locked

BATCH = 512  # latents at once when sampling


@dataclass(frozen=True, eq=False)
class Prior:
    """A trained prior. Latents go in and out in the functa's own units.

    params: the averaged weights; mean (*latent_shape) and scale (a number): latents are
    normalised as (latents - mean) / scale; checkpoint: the `Functa.fit_hash` of what made them;
    identity: of settings, seed and data, so that training can be skipped when nothing changed;
    history: rows (step, training loss, validation loss).
    """

    config: PriorConfig
    params: dict
    mean: np.ndarray
    scale: np.ndarray
    num_classes: int
    checkpoint: str
    identity: str
    history: list

    @property
    def latent_shape(self):
        """Shape of one latent."""
        return self.mean.shape

    @property
    def network(self):
        """What fixes the denoiser's shapes."""
        return self.config, self.latent_shape, self.num_classes

    def sample(self, count, labels=None, guidance=0.0, steps=100, seed=0, sampler="ddim"):
        """New latents (count, *latent_shape), float32.

        labels: None for any class, one class, or one of each sample (count,); guidance: w >= 0,
        0 for the plain conditional model; sampler: "ddim" or "ddpm".
        """
        if sampler not in SAMPLERS:
            raise UserError(f"sampler {sampler!r} is neither ddim nor ddpm")
        random = np.random.default_rng(seeds.fold(seed, "start"))
        noise = random.standard_normal((count, *self.latent_shape))
        return self.decode_ddim(noise, labels, guidance, steps, eta=SAMPLERS[sampler], seed=seed)

    def decode_ddim(self, noise, labels=None, guidance=0.0, steps=100, *, eta=0.0, seed=0):
        """Noise (n, *latent_shape), N(0, 1), to latents, deterministically for eta 0."""
        walk = _walk(self.network, "down", steps, guidance != 0)
        return self._units(self._in_batches(walk, noise, labels, guidance, eta=eta, seed=seed))

    def encode_ddim(self, latents, labels=None, guidance=0.0, steps=100):
        """Latents to the noise from which decode_ddim, with the same arguments, makes them."""
        walk = _walk(self.network, "up", steps, guidance != 0)
        return self._in_batches(walk, self._normalise(latents), labels, guidance)

    def denoise(self, latents, noise_level, labels=None, guidance=0.0):
        """Posterior mean of latents given `latents` = them + noise of std noise_level * scale.

        noise_level: a number > 0 or one a row (n,); 1 is about the spread of the latents. The score
        of noisy latents is (denoise(y) - y) / (noise_level * scale)**2 (Tweedie's formula).
        """
        latents = self._normalise(latents)
        phi = np.broadcast_to(np.arctan(np.asarray(noise_level, np.float32)), len(latents))
        if not np.all(phi > 0):
            raise UserError("noise_level must be above 0")
        walk = _walk(self.network, "denoise", 1, guidance != 0)
        phi = np.clip(phi, SMALLEST, HALF_TURN)
        return self._units(self._in_batches(walk, latents, labels, guidance, phi=phi))

    def _normalise(self, latents):
        latents = np.asarray(latents, np.float32)
        if latents.shape[1:] != self.latent_shape:
            raise UserError(
                f"latents have shape {latents.shape}, not (n, {str(self.latent_shape)[1:]}"
            )
        return (latents - self.mean) / self.scale

    def _units(self, latents):
        return latents * self.scale + self.mean

    def _classes(self, labels, count):
        labels = np.broadcast_to(-1 if labels is None else labels, count).astype(np.int32)
        if count and labels.max() >= self.num_classes:
            raise UserError(f"class {labels.max()} is not one of {self.num_classes}")
        return np.where(labels < 0, self.num_classes, labels).astype(np.int32)

    def _in_batches(self, walk, rows, labels, guidance, *, eta=0.0, seed=0, phi=None):
        """walk(...) on batches of few sizes, so that little is compiled."""
        labels = self._classes(labels, len(rows))
        phi = np.zeros(len(rows)) if phi is None else phi
        arrays = [np.asarray(rows, np.float32), np.asarray(phi, np.float32), labels]
        numbers = count()

        def on_devices(*batch):
            mesh = devices.data_mesh(len(batch[0]))
            batch = [devices.put(part, mesh, PartitionSpec(devices.AXIS)) for part in batch]
            key = jax.random.key(seeds.fold(seed, "steps", next(numbers)) % 2**31)
            return (walk(self.params, *batch, guidance, eta, key),)

        return in_batches(on_devices, arrays, BATCH)[0]

    def save(self, path):
        """Write a `.npz` file (arrays and one JSON string, no pickle), whole or not at all."""
        metadata = {
            "config": asdict(self.config),
            "num_classes": self.num_classes,
            "checkpoint": self.checkpoint,
            "identity": self.identity,
            "history": self.history,
        }
        arrays = {"mean": self.mean, "scale": self.scale, **siren.flatten(self.params)}
        npz.write(path, {"about": json.dumps(metadata), **arrays})


SAMPLERS = {"ddim": 0.0, "ddpm": 1.0}  # name: eta


@cache
def _walk(network, direction, steps, with_guidance):
    """A compiled function of (params, rows, phi, labels, guidance, eta, key)."""

    @jax.jit
    def walk(params, rows, phi, labels, guidance, eta, key):
        model = nnx.merge(graph(network), params)
        none = jnp.full_like(labels, network[-1])

        def velocity(z, phi):
            phi = jnp.broadcast_to(phi, len(z))
            v = model(z, phi, labels)
            return guided(v, model(z, phi, none), guidance) if with_guidance else v

        if direction == "down":
            return walk_down(velocity, rows, steps, eta, key)
        if direction == "up":
            return walk_up(velocity, rows, steps)
        each = phi.reshape(-1, *[1] * (rows.ndim - 1))
        z = jnp.cos(each) * rows
        return unmix(z, velocity(z, phi), each)[0]

    return walk


def load_prior(path):
    """Read a prior from its file, or from the folder that holds prior.npz.

    Raises UserError, in one line, if there is none or it is damaged.
    """
    path = Path(path)
    path = path / "prior.npz" if path.is_dir() else path
    if not path.exists():
        raise UserError(f"no prior at {path}; functa_jax.tasks.generate makes it")
    with npz.reading(path, "a prior") as arrays:
        metadata = json.loads(str(arrays.pop("about")))
        metadata["config"] = PriorConfig(**metadata["config"])
        mean, scale = arrays.pop("mean"), arrays.pop("scale")
        prior = Prior(params=siren.unflatten(arrays), mean=mean, scale=scale, **metadata)
        siren.check_arrays(prior.params, lambda: fresh(prior.network, jax.random.key(0)))
        return prior


def train_prior(
    latents, labels, num_classes, config, seed, *, checkpoint="", validation=None, path=None
):
    """Train a Prior on latents (n, *latent_shape) of classes labels (n,), -1 if unknown.

    num_classes: 0 without classes; checkpoint: the functa's fit_hash, kept with it; validation:
    (latents, labels) on which the best averaged weights are chosen, else the last are taken.
    path: a file that keeps the prior. If it already holds one of the same settings, seed and
    data, that is returned; a training that was killed goes on from what it left beside it, in a
    folder of its own for each such identity. UserError if another process trains the same.
    """
    latents, labels = np.asarray(latents, np.float32), np.asarray(labels, np.int64)
    if not np.isfinite(latents).all() or len(latents) < 2 or (latents == latents[0]).all():
        raise UserError(f"a prior needs finite latents that differ, not these {len(latents)}")
    if labels.max() >= num_classes:
        raise UserError(f"class {labels.max()} is not one of {num_classes}")
    data = (latents, labels) + (() if validation is None else tuple(validation))
    identity = _identity(config, num_classes, seed, checkpoint, data)
    if path is not None and Path(path).exists():
        prior = load_prior(path)
        if prior.identity == identity:
            print(f"{path} holds the prior of these settings", flush=True)
            return prior
    mean = latents.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.float32((latents - mean).std())
    network = config, mean.shape, num_classes
    parts = []
    for rows, classes in zip(data[::2], data[1::2], strict=True):
        classes = np.where(classes < 0, num_classes, classes).astype(np.int32)
        parts.append(((np.asarray(rows, np.float32) - mean) / scale, classes))
    folder = None if path is None else Path(path).with_suffix(".training") / identity
    with locked(folder) if folder else nullcontext():
        params, history = diffusion_training.train(network, parts, seed, folder)
        prior = Prior(config, params, mean, scale, num_classes, checkpoint, identity, history)
        if path is not None:
            prior.save(path)
            Stopping.kept = f"the prior in {path}"
            diffusion_training.forget(folder)
    return prior


def _identity(config, num_classes, seed, checkpoint, data):
    digest = hashlib.sha256(repr((config, num_classes, seed, checkpoint)).encode())
    for part in data:
        digest.update(str(np.shape(part)).encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]
