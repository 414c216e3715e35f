"""Weights that are a sparse matrix plus two thin factors, in files and counts."""

import json
from typing import NamedTuple

import torch

KEY = "prune_torch.factored"  # in a file's metadata: names of such weights


class Parts(NamedTuple):
    """sparse, in the weight's shape; left (rows, rank), right (rank, columns)."""

    sparse: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def joined(self):
        """The weight: sparse + left @ right."""
        return self.sparse + (self.left @ self.right).view_as(self.sparse)

    def nonzero(self):
        return sum(int(part.count_nonzero()) for part in self)


def separated(state, parts):
    """(tensors, metadata) for a file: of the weights in `parts` (name -> Parts), their parts.

    state: name -> tensor of the whole model.
    """
    if not parts:
        return dict(state), {}
    tensors = {name: tensor for name, tensor in state.items() if name not in parts}
    for name, own in parts.items():
        tensors.update({f"{name}.{kind}": part for kind, part in own._asdict().items()})
    return tensors, {KEY: json.dumps(list(parts))}


def joined(tensors, metadata):
    """The model's tensors, from those of a file with parts or without."""
    whole = dict(tensors)
    for name in json.loads(metadata.get(KEY, "[]")):
        own = Parts(*(whole.pop(f"{name}.{kind}") for kind in Parts._fields))
        whole[name] = own.joined()
    return whole
