"""Write the functaset of any data set from a trained run: one latent per image, as .npz.

Batched and compiled; memory does not grow with the number of images; a killed export goes on
where it was when the same command is given again.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from functa_jax.training.config import ClusterConfig
from groundfloor import checks, cli
from groundfloor.checks import Count, CountOrZero, Seed
from groundfloor.errors import UserError
from groundfloor.runs import counted


@dataclass(frozen=True, kw_only=True)
class Config(ClusterConfig):
    """What to encode, with which run, and where to write."""

    run: Path
    """Run folder (or functa.npz file) of the trained functa."""
    dataset: str | None = None
    """Data set, or path of a folder of images or a .npy or .npz file; default that of the run."""
    data_dir: Path | None = None
    """Folder with data sets; default $FUNCTA_DATA or ~/.cache/functa."""
    download: bool = False
    """Let torchvision download the data set if it is missing."""
    skip_damaged: bool = False
    """Leave out the damaged files of a folder of images and name them, instead of refusing it."""
    resident: Literal["auto", "yes", "no"] = "auto"
    """Images in memory, or (no) those of TFDS sets read from their files batch by batch; auto: from
    their files beyond a quarter of the memory."""
    out: Path | None = None
    """File to write; default functaset[-DATA][-xCOPIES][-lbfgsSTEPS].npz in the run folder."""
    lbfgs_steps: CountOrZero | None = None
    """Iterations of L-BFGS after the inner loop: closer fits, each about four passes; default those
    of the network, usually none. classify and compress encode new images so, too."""
    copies: Count | None = None
    """Augmented copies of every training image, beside the image itself; default none."""
    flip: bool | None = None
    """Mirror copies left-right half of the time; default yes, but not of mnist, kmnist,
    svhn_cropped and digits, whose mirrored images are others."""
    pad: CountOrZero | None = None
    """Zero pixels that copies are padded by before a random crop; default an eighth of the side."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type of the latents in the file; float16 halves it."""
    shard_megabytes: Count = 1000
    """Latents in one file, at most; larger sets come in several."""
    seed: Seed = 0
    """Seed of the augmentation."""

    def __post_init__(self):
        super().__post_init__()
        for field, default in (("flip", None), ("pad", None), ("seed", 0)):
            value = getattr(self, field)
            needed = self.copies or value == default
            checks.require(needed, field, value, "needs --copies: only copies are augmented")
        named = self.out is None or (self.out.suffix == ".npz" and self.out.name != "functa.npz")
        checks.require(named, "out", self.out, "must be a .npz file, other than functa.npz")


def main(config):
    """Load the run and the data, fit, write; prints the line that loads the result.

    Returns {"paths": files written, "images": fitted, "checkpoint": hash of the weights}.
    """
    from functa_jax.training import devices

    if config.coordinator:
        devices.join_cluster(config.coordinator, config.processes, config.process)
    devices.one_cpu_device_per_core()
    from functa_jax.functa import load
    from functa_jax.modalities import loading
    from functa_jax.training import exporter

    def prepare():
        functa = load(config.run)
        if config.lbfgs_steps is not None:
            functa = replace(functa, lbfgs_steps=config.lbfgs_steps)
        data = exporter.data_of(
            functa,
            config.run,
            config.data_dir,
            name=config.dataset,
            download=config.download,
            skip_damaged=config.skip_damaged,
            resident=config.resident,
        )
        loading.refuse_other_kind(functa, config.run, data)
        return functa, data

    functa, data = devices.everywhere(prepare)
    name, trained_on = data.name, functa.metadata.get("data", data.name)
    copies = config.copies or 0
    if functa.of_images:
        side = min(functa.resolution)
        what = f"images of {name} have only {side} pixels"
        checks.refuse_beyond("pad", config.pad, side - 1, what)
        augmentation = exporter.Augmentation.of(
            data, config.flip, config.pad, copies=copies, seed=config.seed
        )
    else:
        if copies:
            raise UserError(f"--copies {copies}: only images are augmented, not {name}")
        augmentation = None
    folder = config.run if config.run.is_dir() else config.run.parent
    stem = "functaset"
    stem += f"-{_short(data)}" if name != trained_on else ""
    stem += f"-x{copies}" if copies else ""
    stem += f"-lbfgs{functa.lbfgs_steps}" if functa.lbfgs_steps else ""
    out = config.out or folder / f"{stem}.npz"
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, not a file")
    rows = len(data.train) * (1 + copies) + len(data.val) + len(data.test)
    place = process, processes = devices.place_in_cluster()
    say = print if process == 0 else (lambda *_, **__: None)
    together = f" in {processes} processes" if processes > 1 else ""
    steps = f"{functa.inner_steps} steps"
    steps += f" and {functa.lbfgs_steps} of L-BFGS" if functa.lbfgs_steps else ""
    say(
        f"fitting {counted(rows, data.noun)} of {name} ({copies} augmented copies of each "
        f"training {data.noun}) with {config.run}, {steps} each{together}; "
        f"writing {out}",
        flush=True,
    )
    try:
        paths = exporter.export(
            functa, data, out, augmentation, config.dtype, config.shard_megabytes, place
        )
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    for path in paths:
        say(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    say(f'load it: functa_jax.load_functaset("{out}")')
    return {"paths": [str(path) for path in paths], "images": rows, "checkpoint": functa.hash}


def _short(data):
    """What a data set is called in the name of a file: two of one's own may end alike."""
    path = Path(data.name)
    if not path.is_absolute():
        return path.stem
    return f"{path.name if path.is_dir() else path.stem}-{data.fingerprint[:6]}"


if __name__ == "__main__":
    cli.run(main, Config)
