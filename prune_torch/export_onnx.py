"""A network of a sweep as an ONNX file, checked in ONNX Runtime.

    python -m prune_torch.export_onnx runs/prune-digits/cells/heads-d0.5-s0.safetensors

Needs three more packages: pip install onnx onnxruntime onnxscript
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from groundfloor import checks, cli
from groundfloor.errors import UserError
from groundfloor.runs import atomic
from prune_torch import compact, costs
from prune_torch.network import stored

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-4  # of the largest logit, and never less than of 1


@dataclass(frozen=True)
class Config(checks.Settings):
    """What to export, and where to."""

    file: tyro.conf.Positional[Path]
    """Any network of a sweep, packed or not, or a file of prune_torch.compact.save."""
    out: Path = Path("model.onnx")
    """ONNX file to write."""


def main(config):
    """Load the model, export it, compare the outputs, and keep the file if they agree.

    Returns a dict of bytes, parameters and the largest difference of outputs.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX export needs more packages: pip install {' '.join(missing)}")
    stored.refuse_existing(config.out, "--out")
    model = compact.load(config.file).float()
    with atomic(config.out) as temporary:
        error = export(model, temporary)
    size, parameters = config.out.stat().st_size, costs.parameters(model)
    print(
        f"{config.out} ({size / 1e6:.1f} MB): {parameters:,} parameters; "
        f"ONNX Runtime and torch differ by {error:.1e} at most"
    )
    return {"bytes": size, "parameters": parameters, "difference": error}


def export(model, path):
    """Write `model` (float32) for any number of images, and return the largest difference between
    torch's and ONNX Runtime's logits on random images.

    Input "images" float32 (n, c, h, w), normalised as in training; output "logits" (n, classes).
    Raises UserError if the difference is beyond the tolerance.
    """
    from onnxruntime import InferenceSession

    images = torch.randn(5, model.in_chans, *model.patch_embed.img_size)
    torch.onnx.export(
        model.eval(),
        (images[:2],),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=["images"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours = model(images)
    error = float((torch.from_numpy(theirs) - ours).abs().max())
    if not error <= TOLERANCE * max(1.0, float(ours.abs().max())):
        raise UserError(f"the outputs in ONNX Runtime differ from torch's by {error:.1e}")
    return error


if __name__ == "__main__":
    cli.run(main, Config)
