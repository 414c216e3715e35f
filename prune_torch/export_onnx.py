"""A network of a sweep as a file for those without this project: ONNX, or torch.export's.

    python -m prune_torch.export_onnx runs/prune-digits/cells/heads-d0.5-s0.safetensors
    python -m prune_torch.export_onnx FILE --out model.pt2   torch.export.load("model.pt2").module()

Both are checked: what was read back answers as the network does. ONNX needs three more packages:
pip install onnx onnxruntime onnxscript
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
ANY_NUMBER = ({0: torch.export.Dim("n")},)  # of images
TOLERANCE = 1e-4  # of the largest logit, and never less than of 1


@dataclass(frozen=True)
class Config(checks.Settings):
    """What to export, and where to."""

    file: tyro.conf.Positional[Path]
    """Any network of a sweep, packed or not, or a file of prune_torch.compact.save."""
    out: Path = Path("model.onnx")
    """File to write; .pt2: torch.export's, else ONNX."""


def main(config):
    """Load the model, export it, compare the outputs, and keep the file if they agree.

    Returns a dict of bytes, parameters and the largest difference of outputs.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    onnx = config.out.suffix != ".pt2"
    if onnx and missing:
        raise UserError(f"ONNX export needs more packages: pip install {' '.join(missing)}")
    stored.refuse_existing(config.out, "--out")
    model = compact.load(config.file).float()
    with atomic(config.out) as temporary:
        error = (export if onnx else export_torch)(model, temporary)
    size, parameters = config.out.stat().st_size, costs.parameters(model)
    print(
        f"{config.out} ({size / 1e6:.1f} MB): {parameters:,} parameters; "
        f"{'ONNX Runtime' if onnx else 'the file'} and torch differ by {error:.1e} at most"
    )
    return {"bytes": size, "parameters": parameters, "difference": error}


def export(model, path):
    """Write `model` (float32) for any number of images, and return the largest difference between
    torch's and ONNX Runtime's logits on random images.

    Input "images" float32 (n, c, h, w), normalised as in training; output "logits" (n, classes).
    Raises UserError if the difference is beyond the tolerance.
    """
    from onnxruntime import InferenceSession

    images = examples(model)
    torch.onnx.export(
        model.eval(),
        (images[:2],),
        path,
        dynamo=True,
        dynamic_shapes=ANY_NUMBER,
        input_names=["images"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"images": images.numpy()})
    return difference(model, images, torch.from_numpy(theirs), "in ONNX Runtime")


@torch.no_grad()
def export_torch(model, path):
    """As `export`, a program of torch.export."""
    images = examples(model)
    program = torch.export.export(model.eval(), (images[:2],), dynamic_shapes=ANY_NUMBER)
    torch.export.save(program, path)
    theirs = torch.export.load(path).module()(images)
    return difference(model, images, theirs, "of the file")


def examples(model):
    """Random images, float32 (5, c, h, w)."""
    return torch.randn(5, model.in_chans, *model.patch_embed.img_size)


@torch.no_grad()
def difference(model, images, theirs, where):
    """The largest difference of the logits `theirs` to the model's; UserError beyond tolerance."""
    ours = model(images)
    error = float((theirs - ours).abs().max())
    if not error <= TOLERANCE * max(1.0, float(ours.abs().max())):
        raise UserError(f"the outputs {where} differ from torch's by {error:.1e}")
    return error


if __name__ == "__main__":
    cli.run(main, Config)
