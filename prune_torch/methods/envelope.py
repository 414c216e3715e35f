"""Group sparse envelope (WGSEF; Refael, Lindenbaum and Huleihel 2024): the level is its parameter.

The function is the convex envelope of half the squared norm where all but the groups that fit into
the budget are zero; for single entries it is half the square of the k-support norm (Argyriou et al.
2012; Beck and Refael 2022). Groups that are well inside the budget see weight decay alone.
"""

import torch

from prune_torch.methods.structured import GroupLasso
from prune_torch.protocol import finetune

HALVINGS = 60  # of the interval that holds the root
SMALLEST = 1e-9  # of the largest norm: what is below is zero, or halving would end before the root


class GroupEnvelope(GroupLasso):
    """The proximal map after every step, over coupled heads and neurons; sizes count as weights.

    Its strength is 1 over the sum of the search's learning rates: without a gradient, groups that
    do not fit would end at zero, and those that do be divided by e.
    """

    def start(self, optimizer):
        self.strength = 1 / finetune.total_rate(self.cell.steps, self.cell.whole, self.cell.rate)
        self.optimizer_used, self.dense_levels = optimizer, torch.cat(self.scores())

    @torch.no_grad()
    def after_step(self, step):
        norms, sizes = [], []
        for block in self.blocks:
            _, params, grouping = block
            norms.append(grouping.norms([p.detach() for p in params]))
            sizes.append(torch.tensor(self._sizes(block)).clamp(min=1).to(norms[-1]))
        strength = self.optimizer_used.param_groups[0]["lr"] * self.strength
        budget = max(0, self.cell.count - self._untouched())
        factors = shrinkage(torch.cat(norms), torch.cat(sizes), budget, strength)
        parts = factors.split([len(n) for n in norms])
        for (_, params, grouping), factor in zip(self.blocks, parts, strict=True):
            tensors = [p.detach() for p in params]
            grouping.scale(tensors, factor, tensors)


def shrinkage(norms, sizes, budget, strength):
    """What the proximal map of strength * envelope multiplies each group by, (groups,) in [0, 1].

    The envelope is min over u in [0, 1] with Σ sizes * u <= budget of ½ Σ norms² / u. So the map is
    u / (strength + u) with u = min(1, max(0, a * norms / √sizes - strength)), and `a` such that the
    budget is met: a root, found by halving.
    """
    levels = norms.double() / sizes.double().sqrt()
    levels = levels.where(levels > SMALLEST * levels.max(), 0.0)
    if float(sizes.sum()) <= budget:
        return torch.full_like(norms, 1 / (1 + strength))
    if not budget or not levels.any():
        return torch.zeros_like(norms)

    def shares(a):
        return (a * levels - strength).clamp(0, 1)

    low, high = 0.0, (1 + strength) / float(levels[levels > 0].min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float((sizes * shares(middle)).sum()) > budget:
            high = middle
        else:
            low = middle
    u = shares(low)
    return (u / (strength + u)).to(norms)
