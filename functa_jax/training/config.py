"""Settings of a training: each is defined here, with its help text and its check."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from functa_jax.model.config import StepConfig
from groundfloor import checks
from groundfloor.checks import (
    AtLeastTwo,
    Count,
    CountOrZero,
    Finite,
    Name,
    NotNegative,
    Positive,
    Seed,
    Settings,
    ShareBelowOne,
)
from groundfloor.precision import Precision


@dataclass(frozen=True)
class InnerConfig(StepConfig):
    """The inner loop, which fits one latent."""

    inner_steps: Count = 3
    """Steps that fit one latent."""
    training_steps: CountOrZero | None = None
    """Those of them that the outer loss comes after; none: all. 0 trains at
    the latents' start, that of PCA (--decoder refined_pca)."""
    rates_of_steps: bool = False
    """Learn other rates in each inner step; those after --training-steps stay at --rate-start."""
    first_order: bool = False
    """Ignore second derivatives in the outer gradient (cheaper, worse)."""
    inner_points: Count | None = None
    """Random pixels per inner loss; none uses all."""
    fit_points: Count | None = None
    """Random pixels (the same in all images) that latents are fitted to after training; none: all.
    For functions of very many points."""
    penalty: NotNegative = 0.0
    """Weight of mean(latent^2) in both losses."""

    def __post_init__(self):
        super().__post_init__()
        constant = self.inner_rate is not None
        learned = self.update != "rates" or self.rates_of_steps
        why = "constant rates cannot be learned too"
        checks.require(not (constant and learned), "inner_rate", self.inner_rate, why)
        fewer = self.training_steps is None or self.training_steps <= self.inner_steps
        why = f"there are {self.inner_steps} (--inner-steps)"
        checks.require(fewer, "training_steps", self.training_steps, why)
        gradients = not (self.first_order and self.update == "gauss_newton")
        why = "a Gauss-Newton step is not a gradient"
        checks.require(gradients, "first_order", self.first_order, why)


@dataclass(frozen=True)
class OuterConfig(InnerConfig):
    """The outer loop, which trains the network through the inner loop."""

    steps: Count = 3000
    """Outer steps."""
    batch_size: Count = 64
    """Images per outer step, over all devices."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Of the outer loop; muon: Muon for the layers' weights and Adam for all else."""
    outer_rate: Positive = 1e-3
    """Learning rate of the outer optimizer."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Outer rate over the steps: constant, or cosine decay to zero."""
    warmup: CountOrZero = 100
    """Outer steps of linear warm-up."""
    clip_norm: Positive | None = 1.0
    """Norm that the outer gradient is clipped to; none does not clip."""
    ema: ShareBelowOne = 0.999
    """Decay of the moving average of parameters, which is what gets evaluated and exported."""
    rate_range: tuple[Finite, Finite] = (0.0, 1.0)
    """Learned rates are clipped to this range after every outer step."""
    outer_points: Count | None = None
    """Random pixels per outer loss; none uses all."""
    class_loss: bool = False
    """Train the outer loop for the class, too: the cross-entropy of a linear layer on the latent,
    weighing as much as the reconstruction; encoding needs no labels."""
    noise: NotNegative = 0.0
    """Standard deviation of the noise added to latents before the outer loss."""
    precision: Precision = "float32"
    """Of the operands of training's matrix products after the first layer, which are summed in
    float32; auto: bfloat16 where it makes a step on this device faster by 15 %. All else, also
    fits after training, is in float32."""
    seed: Seed = 0
    """Seed of the initial weights, the order of images and all noise."""

    def __post_init__(self):
        super().__post_init__()
        low, high = self.rate_range
        checks.require(low <= high, "rate_range", self.rate_range, "is empty")
        within = self.rate_start is None or low <= self.rate_start <= high
        why = f"must be in --rate-range {low:g} {high:g}"
        checks.require(within, "rate_start", self.rate_start, why)
        learned = self.training_steps != 0 or not self.class_loss
        why = "its latents are learned in the inner loop, which --training-steps 0 leaves out"
        checks.require(learned, "class_loss", self.class_loss, why)


@dataclass(frozen=True)
class RunConfig(Settings):
    """The run: what is watched, kept and written."""

    init: Path | None = None
    """Start from the weights of another run (its folder, or a functa.npz); none: random ones."""
    eval_every: Count = 500
    """Outer steps between validations; a checkpoint is written with each."""
    dispatch: Count = 50
    """Outer steps in one call of the device."""
    resident: Literal["auto", "yes", "no"] = "auto"
    """Training images in memory and on every device, or (no) streamed: of TFDS sets read and
    decoded as they are needed; auto: streamed beyond a quarter of the memory."""
    workers: CountOrZero = 0
    """Processes that read and decode streamed images; 0: threads."""
    on_divergence: Literal["stop", "rollback"] = "stop"
    """At a non-finite loss or a collapse: stop, or go back to the last checkpoint at half rate; to
    the one before it if that was within 50 steps, or for the second time."""
    collapse: Positive = 4.0
    """Fall of the mean training PSNR below its best that counts as a collapse, in dB."""
    classifier_rows: AtLeastTwo = 20_000
    """Training latents for the classifier, at most."""
    name: Name = ""
    """Appended to the run folder's name."""
    out: Path | None = None
    """Run folder; default runs/meta_train-PRESET[-NAME]."""


@dataclass(frozen=True)
class ClusterConfig(Settings):
    """Several processes that train one network."""

    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT|auto")] = None
    """Address of process 0, or auto to ask the cluster (Slurm, MPI, ...); none: one process."""
    processes: Count | None = None
    """How many processes take part (with --coordinator HOST:PORT)."""
    process: CountOrZero | None = None
    """Number of this process, 0 first."""

    def __post_init__(self):
        super().__post_init__()

        def require(good, name, why):
            checks.require(good, name, getattr(self, name), why)

        if self.coordinator in (None, "auto"):
            for name in ("processes", "process"):
                alone = getattr(self, name) is None
                require(alone, name, "needs --coordinator HOST:PORT, of process 0")
            return
        address = re.fullmatch(r"\S+:\d{1,5}", self.coordinator)
        require(address, "coordinator", "must be HOST:PORT, of process 0, or auto")
        numbered = None not in (self.processes, self.process)
        require(numbered, "coordinator", "needs --processes and --process")
        require(self.process < self.processes, "process", f"--processes is {self.processes}")
