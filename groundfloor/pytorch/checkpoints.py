"""Checkpoints of PyTorch runs; how they survive kills and damage: groundfloor/kept.py."""

import io

import torch

from groundfloor import kept
from groundfloor.errors import reading
from groundfloor.runs import atomic


def save(folder, step, state, keep=2):
    """Write `state` (tensors, numbers, dicts, lists) as the checkpoint of `step`.

    Older ones but the newest `keep` are deleted.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    kept.save(folder, step, buffer.getvalue(), ".pt", keep)


def newest(folder, device, say=print):
    """The newest good state, or None where nothing was kept; `say` hears of each damaged file.

    Nothing is deleted here. UserError if a file cannot be read, or if none of those there is good:
    then it is the user who decides to begin anew.
    """
    good = kept.newest(folder, ".pt", say)
    return good and _loaded(good[0], io.BytesIO(good[1]), device)


def write(path, state):
    """Write `state` to a file of its own, whole or not at all."""
    with atomic(path) as temporary:
        torch.save(state, temporary)


def read(path, device):
    """The state in a file; a missing or damaged one is a UserError that names it."""
    return _loaded(path, path, device)


def _loaded(path, source, device):
    with reading(path, "a checkpoint"):
        return torch.load(source, map_location=device, weights_only=True)
