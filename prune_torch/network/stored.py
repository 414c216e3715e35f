"""safetensors files of ours: they carry a digest of what they hold, so that damage is noticed.

Another's file without one is read as well; nobody can know then whether it is as it was written.
"""

import hashlib
import json

import torch
from safetensors import safe_open
from safetensors.torch import save

from groundfloor.errors import UserError, reading
from groundfloor.runs import atomic

SEAL = "prune_torch.sha256"  # in a file's metadata
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def write(path, tensors, metadata=()):
    """Write name -> tensor and metadata (name -> string) with their digest, whole or not at all.

    Tied tensors become separate.
    """
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    facts = {name: text for name, text in dict(metadata).items() if name != SEAL}
    facts[SEAL] = digest(plain, sorted(facts.items()))
    write_bytes(path, serialised(plain, facts))


def serialised(tensors, metadata):
    """The two parts, header and data, of a safetensors file: the same for the same content, which
    safetensors' own order of metadata is not."""
    whole = memoryview(save(tensors, metadata))
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(bytes(whole[8:end]))
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, whole[end:]


def write_bytes(path, parts):
    """Write these one after the other, whole or not at all."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)


def read(path):
    """(tensors, metadata) of a safetensors file, on the CPU; UserError naming it if the file is
    missing, damaged or of another kind."""
    with reading(path, "a safetensors file"):
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        facts = sorted((name, text) for name, text in metadata.items() if name != SEAL)
        if SEAL in metadata and metadata[SEAL] != digest(tensors, facts):
            raise ValueError("wrong checksum")
    return tensors, metadata


def digest(tensors, *facts):
    """SHA-256, in hexadecimal, of names, types, shapes and bits of tensors, and of JSON values."""
    state = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        state.update(bits(tensor).numpy())
    return state.hexdigest()


def bits(tensor):
    """The entries in a row, as integers of the same size, on the CPU."""
    whole = tensor.detach().cpu().resolve_conj().resolve_neg()
    return whole.reshape(-1).view(INTEGERS[tensor.itemsize])


def misfit(state, own, optional=()):
    """What keeps tensors (name -> tensor) from being a model's, in words, or None.

    own: the model's state_dict; `optional` are those of its names that may be missing.
    """
    for name in [name for name in state if name in own]:
        theirs, ours = tuple(state[name].shape), tuple(own[name].shape)
        if theirs != ours:
            return f"{name} is {theirs} in the file, {ours} in the model"
    for name in own:
        if name not in state and name not in optional:
            return f"it has no {name}"
    unknown = next((name for name in state if name not in own), None)
    return unknown and f"the model has no {unknown}"


def refuse_existing(path, flag):
    """UserError if there is a file or folder where a command is to write."""
    if path.exists():
        raise UserError(f"{path} exists; choose another {flag}")
