"""Packed sparse files: a bitmask and the nonzero values, in one safetensors file.

    python -m prune_torch.pack model.pth

A packed tensor of n entries takes n/8 bytes and its nonzeros: less than dense below density
1 - 1/bits, 0.97 in float32. Zero is what has no bit set, so that -0.0 and NaNs stay.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import _TYPES

from groundfloor import checks, cli
from groundfloor.errors import UserError, reading
from prune_torch.network import factored, stored

KEY = "prune_torch.pack"  # our metadata
HEADER = 256  # bytes, more than a mask adds to the header


def pack(state_dict, metadata=()):
    """(tensors, metadata) of a packed file, from name -> tensor and strings of yours.

    metadata[KEY] is JSON: {"layout": name -> shape or null, "sha256": of all}. A tensor with a
    shape is bits/NAME (numpy.packbits) and values/NAME; one that packing would not make smaller
    is dense/NAME. Tied tensors become separate, an ordinary file's digest goes. ValueError for what
    safetensors cannot hold.
    """
    tensors, layout = {}, {}
    for name, tensor in state_dict.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"the entry {name!r} of the state_dict is no tensor")
        if tensor.layout != torch.strided or tensor.dtype not in _TYPES.values():
            raise ValueError(f"safetensors cannot hold {name} ({tensor.dtype}, {tensor.layout})")
        bits = stored.bits(tensor)
        mask = np.packbits(bits.numpy() != 0)
        if mask.nbytes + int(bits.count_nonzero()) * bits.itemsize + HEADER < bits.nbytes:
            layout[name] = list(tensor.shape)
            tensors[f"bits/{name}"] = torch.from_numpy(mask)
            tensors[f"values/{name}"] = bits[bits != 0].view(tensor.dtype)
        else:
            layout[name] = None
            tensors[f"dense/{name}"] = bits.clone().view(tensor.dtype).reshape(tensor.shape)
    others = {key: text for key, text in dict(metadata).items() if key != stored.SEAL}
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
        bits = torch.zeros(nonzero.shape, dtype=stored.INTEGERS[values.itemsize])
        bits.masked_scatter_(nonzero, stored.bits(values))
        state_dict[name] = bits.view(values.dtype).reshape(shape)
    return state_dict, others


def save(state_dict, path, metadata=()):
    """Write name -> tensor, and strings of yours, as a packed file, whole or not at all."""
    stored.write_bytes(path, stored.serialised(*pack(state_dict, metadata)))


def load(path):
    """name -> tensor of a packed file; a missing or damaged one is a UserError that names it."""
    with reading(path, "a packed file"):
        return unpack(*stored.read(path))[0]


def opened(path):
    """(name -> tensor, metadata) of a safetensors file, packed or not, weights in parts joined;
    UserError as `load`."""
    with reading(path, "a packed file"):
        contents = stored.read(path)
        tensors, metadata = unpack(*contents) if KEY in contents[1] else contents
        return factored.joined(tensors, metadata), metadata


def _digest(tensors, layout, metadata):
    return stored.digest(tensors, layout, sorted(metadata.items()))


@dataclass(frozen=True)
class Config(checks.Settings):
    """What to pack or unpack, and where to write."""

    file: tyro.conf.Positional[Path]
    """Weights: .safetensors, or a file of torch.save; with --unpack, a packed file."""
    out: Path | None = None
    """File to write; default: FILE ending in .packed.safetensors, or .safetensors again."""
    unpack: bool = False
    """Write an ordinary .safetensors file again."""


def main(config):
    """Pack or unpack; print and return the bytes of the tensors and of the packed file, the density
    and the file that was written.

    What is packed already, and what would not become smaller, is said and left as it is.
    """
    file, ending = config.file, ".safetensors" if config.unpack else ".packed.safetensors"
    out = config.out or file.with_name(file.stem.removesuffix(".packed") + ending)
    with reading(file, "a file of weights"):
        contents = _weights(file)
        packed = KEY in contents[1]
        if config.unpack and not packed:
            raise ValueError("it is not packed")
        state_dict, metadata = unpack(*contents) if packed else contents
        if not state_dict:
            raise ValueError("it holds no tensors")
        parts = () if packed else stored.serialised(*pack(state_dict, metadata))
    tensors = state_dict.values()
    dense, count = sum(t.nbytes for t in tensors), sum(t.numel() for t in tensors)
    size = file.stat().st_size if packed else sum(map(len, parts))
    zeros, negative = _zeros(tensors)
    density = 1 - zeros / max(count, 1)
    summary = {"dense_bytes": dense, "packed_bytes": size, "density": density, "out": None}
    sizes = f"dense {dense / 1e6:.2f} MB, packed {size / 1e6:.2f} MB, density {density:.4f}"
    if packed and not config.unpack:
        if config.out:
            raise UserError(f"--out {out}: {file} is packed already; copy it")
        print(f"{file} is packed already: {sizes}; --unpack makes an ordinary file of it")
        return summary
    if not packed and stored.SEAL not in metadata:
        print(f"{file} carries no digest of ours: whether it is undamaged cannot be checked")
    if not packed and size >= dense:
        print(f"{file} would not become smaller: {sizes}; nothing was written")
        return summary
    stored.refuse_existing(out, "--out")
    if packed:
        stored.write(out, state_dict, metadata)
    else:
        stored.write_bytes(out, parts)
    print(f"{out}: {sizes}")
    if negative:
        print(f"{negative:,} zeros are -0.0, kept as values; adding 0.0 makes them plain")
    return {**summary, "out": str(out)}


def _zeros(tensors):
    """How many entries are zero, and how many of these are -0.0."""
    zeros = sum(int((tensor == 0).sum()) for tensor in tensors)
    return zeros, zeros - sum(int((stored.bits(tensor) == 0).sum()) for tensor in tensors)


def _weights(path):
    """(state_dict, metadata) of a file as it is, or of "state_dict" or "model" inside."""
    if path.suffix == ".safetensors":
        return stored.read(path)
    contents = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(contents, dict):
        raise ValueError("it holds no state_dict")
    inside = (contents.get(key) for key in ("state_dict", "model"))
    return next((d for d in inside if isinstance(d, dict)), contents), {"format": "pt"}


if __name__ == "__main__":
    cli.run(main, Config)
