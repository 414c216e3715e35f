"""Adaptive pruning by the PQ index (Diao et al. 2023): stops by itself."""

import math

import torch

from prune_torch.methods.lottery import Lottery

LEAST = 0.02  # of the weights must be worth removing for another round


class PQIndex(Lottery):
    """Rounds of training and rewinding, each removing as many weights as their PQ index says.

    With p = 1/2 and q = 1 the index of n weights is I = 1 - (Σ √|w|)² / (n Σ |w|): 0 if all are
    alike, 1 - 1/n if all but one are zero, the same for c·w. n (1 - I) weights stay (no slack:
    η = 0, γ = 1); the rounds end when nearly all do.
    """

    chooses = True
    inexact = "the density it chose"

    def fewer(self, kept, count):
        weights = torch.cat([p[self.now[n]] for n, p in self.cell.parameters.items()])
        stay = min(kept, math.ceil(kept * (1 - pq_index(weights.detach()))))
        return kept if kept - stay < LEAST * kept else stay


def pq_index(weights):
    """I of a tensor of weights, for p = 1/2, q = 1; 0 for zeros alone."""
    sizes = weights.abs().double()
    total = float(sizes.sum())
    return 1 - float(sizes.sqrt().sum()) ** 2 / (sizes.numel() * total) if total else 0.0
