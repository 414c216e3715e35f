"""Packed sparse files: a bitmask and the nonzero values, in one safetensors file.

    python -m prune_torch.pack model.pth

A packed tensor of n entries takes n/8 bytes and its nonzeros: less than dense below density
1 - 1/bits, 0.97 in float32. Zero is what has no bit set, so that -0.0 and NaNs stay.
"""

import contextlib
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors import safe_open
from safetensors.torch import _TYPES, save_file

from common import cli
from common.errors import UserError
from common.runs import atomic
from common.split import first_line

KEY = "prune_torch.pack"  # our metadata
HEADER = 256  # bytes, more than a mask adds to the header
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack(state_dict, metadata=()):
    """(tensors, metadata) of a packed file, from name -> tensor and strings of yours.

    metadata[KEY] is JSON: {"layout": name -> shape or null, "sha256": of all}. A tensor with a
    shape is bits/NAME (numpy.packbits) and values/NAME; one that packing would not make smaller
    is dense/NAME. Tied tensors become separate. UserError for what safetensors cannot hold.
    """
    tensors, layout = {}, {}
    for name, tensor in state_dict.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(f"the entry {name!r} of the state_dict is no tensor")
        if tensor.layout != torch.strided or tensor.dtype not in _TYPES.values():
            raise UserError(f"safetensors cannot hold {name} ({tensor.dtype}, {tensor.layout})")
        bits = _bits(tensor)
        mask = np.packbits(bits.numpy() != 0)
        if mask.nbytes + int(bits.count_nonzero()) * bits.itemsize + HEADER < bits.nbytes:
            layout[name] = list(tensor.shape)
            tensors[f"bits/{name}"] = torch.from_numpy(mask)
            tensors[f"values/{name}"] = bits[bits != 0].view(tensor.dtype)
        else:
            layout[name] = None
            tensors[f"dense/{name}"] = bits.clone().view(tensor.dtype).reshape(tensor.shape)
    others = dict(metadata)
    ours = {"layout": layout, "sha256": _digest(tensors, layout, others)}
    return tensors, {**others, KEY: json.dumps(ours, ensure_ascii=False)}


def unpack(tensors, metadata):
    """(state_dict, metadata) that `pack` was given, on the CPU; ValueError if damaged."""
    others = dict(metadata)
    if KEY not in others:
        raise ValueError("it is not packed")
    ours = json.loads(others.pop(KEY))
    if ours["sha256"] != _digest(tensors, ours["layout"], others):
        raise ValueError("it is damaged (wrong checksum)")
    state_dict = {}
    for name, shape in ours["layout"].items():
        if shape is None:
            state_dict[name] = tensors[f"dense/{name}"]
            continue
        mask, values = tensors[f"bits/{name}"].numpy(), tensors[f"values/{name}"]
        nonzero = torch.from_numpy(np.unpackbits(mask, count=math.prod(shape))).bool()
        bits = torch.zeros(nonzero.shape, dtype=INTEGERS[values.itemsize])
        bits.masked_scatter_(nonzero, _bits(values))
        state_dict[name] = bits.view(values.dtype).reshape(shape)
    return state_dict, others


def save(state_dict, path):
    """Write name -> tensor as a packed file, whole or not at all."""
    _write(path, *pack(state_dict))


def load(path):
    """name -> tensor of a packed file; a missing or damaged one is a UserError that names it."""
    with _naming(path):
        return unpack(*_contents(path))[0]


def _bits(tensor):
    """The entries in a row, as integers of the same size."""
    return tensor.detach().cpu().resolve_conj().reshape(-1).view(INTEGERS[tensor.itemsize])


def _digest(tensors, layout, metadata):
    digest = hashlib.sha256(json.dumps([layout, sorted(metadata.items())]).encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(_bits(tensor).numpy())
    return digest.hexdigest()


def _contents(path):
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def _write(path, tensors, metadata):
    with _naming(path), atomic(path) as temporary:
        save_file(tensors, temporary, metadata)


@contextlib.contextmanager
def _naming(path):
    """What goes wrong with the file is a UserError that names it."""
    try:
        yield
    except (UserError, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be used: {first_line(error)}") from None
    except Exception as error:  # a damaged file may raise nearly anything
        raise UserError(f"{path} is damaged or of another kind ({first_line(error)})") from None


@dataclass(frozen=True)
class Config:
    """What to pack or unpack, and where to write."""

    file: tyro.conf.Positional[Path]
    """Weights: .safetensors, or a file of torch.save; with --unpack, a packed file."""
    out: Path | None = None
    """File to write; default: FILE ending in .packed.safetensors, or .safetensors again."""
    unpack: bool = False
    """Write an ordinary .safetensors file again."""


def main(config):
    """Pack or unpack; print the size of the tensors and of the packed file, and the density."""
    ending = ".safetensors" if config.unpack else ".packed.safetensors"
    out = config.out or config.file.with_name(config.file.stem.removesuffix(".packed") + ending)
    if out.exists():
        raise UserError(f"{out} exists; choose another --out")
    with _naming(config.file):
        if config.unpack:
            ordinary = written = unpack(*_contents(config.file))
        else:
            ordinary = _weights(config.file)
            written = pack(*ordinary)
    _write(out, *written)
    size = (config.file if config.unpack else out).stat().st_size / 1e6
    tensors = ordinary[0].values()
    dense = sum(t.nbytes for t in tensors) / 1e6
    zeros = sum(int((t == 0).sum()) for t in tensors)
    negative = zeros - sum(int((_bits(t) == 0).sum()) for t in tensors)
    density = 1 - zeros / max(sum(t.numel() for t in tensors), 1)
    print(f"{out}: dense {dense:.2f} MB, packed {size:.2f} MB, density {density:.4f}")
    if negative:
        print(f"{negative:,} zeros are -0.0, kept as values; adding 0.0 makes them plain")


def _weights(path):
    """(state_dict, metadata) of an ordinary file, or of "state_dict" or "model" inside."""
    if path.suffix == ".safetensors":
        contents, metadata = _contents(path)
        if KEY in metadata:
            raise ValueError("it is packed already (--unpack)")
        return contents, metadata
    contents = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(contents, dict):
        raise ValueError("it holds no state_dict")
    inside = (contents.get(key) for key in ("state_dict", "model"))
    return next((d for d in inside if isinstance(d, dict)), contents), {"format": "pt"}


if __name__ == "__main__":
    cli.run(main, Config)
