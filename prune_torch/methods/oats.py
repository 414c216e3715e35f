"""OATS (Zhang and Papyan, ICLR 2025, arXiv 2409.13652): a sparse matrix plus one of low rank.

W D = S + L with D the root mean squares of the inputs; S and L in turns: L the best of its rank to
W D - S, S the largest entries of W D - L. Both factors of L count as weights that stay.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize

from groundfloor.pytorch import masking
from prune_torch.methods.base import Method, owner
from prune_torch.network.factored import Parts

SHARE = 0.25  # of a matrix's weights go into the factors
TURNS = 20


class Sum(nn.Module):
    """A weight as sparse + left @ right, all three trained."""

    def __init__(self, parts):
        super().__init__()
        self.begin = parts

    def forward(self, sparse, left, right):
        return Parts(sparse, left, right).joined()

    def right_inverse(self, weight):
        return tuple(self.begin)


class OATS(Method):
    """The same density in every matrix; no matrix is sparse as a whole."""

    rewrites = True

    def refusal(self):
        return "zeros do not stay beside factors of low rank" if self.cell.held else None

    @torch.no_grad()
    def masks(self, count):
        """Masks of the sparse parts, by the names that they have in the model now."""
        parameters, masks = self.cell.parameters, {}
        counts = self.layer_counts(count)
        for name, squares in self.input_squares().items():
            weight = parameters[name].detach()
            rows, columns = weight.flatten(1).shape
            rank = round(SHARE * counts[name] / (rows + columns))
            entries = counts[name] - rank * (rows + columns)
            parts = split(weight.flatten(1), squares.sqrt(), rank, entries)
            parts = parts._replace(sparse=parts.sparse.view_as(weight))
            parametrize.register_parametrization(*owner(self.cell.model, name), Sum(parts))
            layer, _, tensor = name.rpartition(".")
            masks[f"{layer}.parametrizations.{tensor}.original0"] = parts.sparse != 0
        return masks

    @torch.no_grad()
    def settle(self):
        parts = {}
        for name in self.cell.parameters:
            module, tensor = owner(self.cell.model, name)
            own = module.parametrizations[tensor]
            factors = (own.original0, own.original1, own.original2)
            parts[name] = Parts(*(factor.detach().clone() for factor in factors))
            parametrize.remove_parametrizations(module, tensor)
            delattr(module, tensor)  # of several tensors PyTorch makes a buffer
            setattr(module, tensor, nn.Parameter(parts[name].joined()))
        return parts


def split(weight, scales, rank, entries):
    """`Parts` of weight (rows, columns): L of this rank, S with so many entries, by the error of
    the outputs on inputs of these root mean squares (columns,)."""
    scales = scales.double() / scales.double().mean().clamp_min(1e-30)
    scales = scales.clamp_min(1e-3)  # inputs that are always zero
    scaled = weight.double() * scales
    sparse = torch.zeros_like(scaled)
    for _ in range(TURNS if rank else 1):
        u, s, v = torch.linalg.svd(scaled - sparse, full_matrices=False)
        left, right = u[:, :rank] * s[:rank].sqrt(), s[:rank, None].sqrt() * v[:rank]
        rest = scaled - left @ right
        sparse = rest * masking.top_masks({0: rest.abs()}, entries)[0]
    parts = (sparse / scales, left, right / scales)
    return Parts(*(part.to(weight) for part in parts))
