"""Import the weights and the modulations that DeepMind published with functa; export weights.

python -m functa_jax.deepmind celeba_params_256_latents.npz
python -m functa_jax.deepmind celeba_modulations_256_latents.npz --weights RUN
"""

import filecmp
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from functa_jax.deepmind import weights
from groundfloor import cli
from groundfloor.errors import UserError, reading


@dataclass(frozen=True)
class Config:
    """Which file to import, and where to write it."""

    file: tyro.conf.Positional[Path]
    """DeepMind's file: weights (..._params_...) or modulations (..._modulations_...)."""
    out: Path | None = None
    """Run folder for functa.npz or functaset.npz; default runs/NAME OF THE FILE."""
    weights: Path | None = None
    """Run folder of the imported weights that the modulations were fitted with, if known."""


def main(config):
    """Read the file, say what it holds, write it, and print the line that loads it.

    Returns {"path": of the file written, "sha256": of the file read}.
    """
    functa = None
    if config.weights:
        from functa_jax.functa import load

        functa = load(config.weights)
    with reading(config.file, weights.FILE):
        contents, source = weights.read(config.file)
        if "params" in contents:
            if functa is not None:
                raise ValueError("it holds weights; --weights is for modulations")
            result, name, loader = weights.as_functa(contents, source), "functa.npz", "load"
            text = _describe(result, contents["params"])
        else:
            result = weights.as_functaset(contents, source, functa)
            name, loader = "functaset.npz", "load_functaset"
            text = ", ".join(
                f"{split} latents {part.latents.shape} of {part.psnr.mean():.2f} dB"
                for split, part in (("train", result.train), ("test", result.test))
            )
    path = (config.out or Path("runs") / config.file.stem) / name
    print(f"{config.file}: {text}")
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / name
        result.save(fresh)
        if path.exists() and not filecmp.cmp(fresh, path, shallow=False):
            raise UserError(f"{path} exists and differs; choose another --out")
    result.save(path)
    print(f'{path} ({path.stat().st_size / 1e6:.1f} MB)\nload it: functa_jax.{loader}("{path}")')
    return {"path": str(path), "sha256": source["sha256"]}


def _describe(functa, params):
    count = sum(np.size(value) for leaves in params.values() for value in leaves.values())
    text = f"{count:,} parameters, {functa.config}, {functa.inner_steps} inner steps"
    if "inner_rate" in functa.params:
        rates = functa.params["inner_rate"]
        outside = ((rates < 0) | (rates > 1)).sum()
        text += f", rates {rates.min():.4g} to {rates.max():.4g}, {outside} outside [0, 1] (kept)"
    return text


if __name__ == "__main__":
    cli.run(main, Config)
