"""Checkpoints of PyTorch runs that survive kills and damage.

The name of a file holds the step and a digest of its bytes: `0000004690-1f2e3d4c5b6a7988.pt`.
"""

import hashlib
import io
import pickle

import torch

from common.errors import UserError
from common.runs import Stopping, atomic
from common.split import first_line


def save(folder, step, state, keep=2):
    """Write `state` (tensors, numbers, dicts, lists) as the checkpoint of `step`.

    Older ones but the newest `keep` are deleted.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    with atomic(folder / f"{step:010d}-{_digest(content)}.pt") as temporary:
        temporary.write_bytes(content)
    Stopping.kept = f"step {step:,} in {folder.parent}"
    for old in sorted(folder.glob("*.pt"))[:-keep]:
        old.unlink()


def newest(folder, device, say=print):
    """The newest good state, or None where nothing was kept; `say` hears of each damaged file.

    Nothing is deleted here. UserError if a file cannot be read, or if none of those there is good:
    then it is the user who decides to begin anew.
    """
    paths = sorted(folder.glob("*.pt"), reverse=True)
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        if path.stem.split("-")[-1] == _digest(content):
            return _loaded(path, io.BytesIO(content), device)
        say(f"checkpoint {path.name} is damaged and was skipped")
    if paths:
        raise UserError(f"no checkpoint in {folder} is good; move them away to begin anew")
    return None


def write(path, state):
    """Write `state` to a file of its own, whole or not at all."""
    with atomic(path) as temporary:
        torch.save(state, temporary)


def read(path, device):
    """The state in a file; a missing or damaged one is a UserError that names it."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    return _loaded(path, path, device)


def _loaded(path, source, device):
    try:
        return torch.load(source, map_location=device, weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is no checkpoint ({first_line(error)})") from None


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]
