"""Whole heads, neurons and blocks: by Taylor importance, and by group lasso."""

import re

import torch

from optim_torch import groups
from optim_torch.vit_groups import vit_groups
from prune_torch import finetune
from prune_torch.methods.base import Method

BATCHES = 8


class Structured(Method):
    """Groups with the best scores stay, as long as they fit into the number of weights.

    A group's weights go with their biases, so that the network can be made smaller. `count` is of
    prunable weights, biases aside: the density comes out a little below the level.
    """

    structured = True
    inexact = "whole groups"
    heads = neurons = True

    def __init__(self, cell):
        super().__init__(cell)
        named = vit_groups(cell.model, heads=self.heads, neurons=self.neurons)[:-1]
        self.blocks = []
        for group in named:
            names, params = zip(*group["params"], strict=True)
            ((_, grouping),) = groups.partition(group["penalty"], params)
            self.blocks.append((names, params, grouping))

    def scores(self):
        """One tensor of scores for each block of groups; larger is better, by weight."""
        raise NotImplementedError

    def masks(self, count):
        free = count - self._untouched()
        flat = torch.cat([score.flatten() for score in self.scores()])
        sizes = [self._weights(block) for block in self.blocks for _ in range(block[2].count)]
        chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        for i in flat.sort(descending=True, stable=True).indices.tolist():
            if sizes[i] <= free:
                chosen[i] = True
                free -= sizes[i]
        found = {}
        parts = chosen.split([block[2].count for block in self.blocks])
        for (names, params, grouping), part in zip(self.blocks, parts, strict=True):
            spread = grouping.spread(part, params)
            found.update(zip(names, (mask.contiguous() for mask in spread), strict=True))
        return found

    def _weights(self, block):
        """Prunable weights of one group of a block."""
        names, params, grouping = block
        inside = sum(
            p.numel() for n, p in zip(names, params, strict=True) if n in self.cell.parameters
        )
        return inside // grouping.count

    def _untouched(self):
        """Prunable weights that belong to no group: they stay."""
        touched = {name for names, _, _ in self.blocks for name in names}
        return sum(p.numel() for n, p in self.cell.parameters.items() if n not in touched)


class Taylor(Structured):
    """Importance (Molchanov et al. 2019): the square of the sum of gradient * weight of a group.

    Taken by weight, so that heads and neurons can be compared.
    """

    def scores(self):
        model, task = self.cell.model, self.cell.task
        totals = [0.0] * len(self.blocks)
        for number in range(BATCHES):
            model.zero_grad()
            task.loss(model, task.batch(self.cell.seed, number)).backward()
            for i, (_, params, grouping) in enumerate(self.blocks):
                products = [(p.grad * p).detach() for p in params]
                totals[i] = totals[i] + group_sums(products, grouping).square()
        model.zero_grad()
        self.passes += BATCHES
        return [
            total / self._weights(block) for total, block in zip(totals, self.blocks, strict=True)
        ]


def group_sums(tensors, grouping):
    """The sum of the entries of every group (G,)."""
    total = 0.0
    for tensor, (shape, axis) in zip(tensors, grouping.views, strict=True):
        others = [i for i in range(len(shape)) if i != axis]
        view = tensor.reshape(shape)
        total = total + (view.sum(others) if others else view)
    return total


class Heads(Taylor):
    """Attention heads alone: they cannot go below what the other layers hold."""

    neurons = False


class Neurons(Taylor):
    """Neurons of the MLPs alone."""

    heads = False


class Blocks(Taylor):
    """Whole transformer blocks: attention and MLP together."""

    def scores(self):
        """The same score for all groups of a block: its mean importance."""
        scores = super().scores()
        numbers = [int(re.search(r"blocks\.(\d+)\.", names[0])[1]) for names, _, _ in self.blocks]
        means = {}
        for number in set(numbers):
            own = [s for s, n in zip(scores, numbers, strict=True) if n == number]
            means[number] = torch.cat(own).mean()
        return [torch.full_like(s, float(means[n])) for s, n in zip(scores, numbers, strict=True)]


class GroupLasso(Structured):
    """Sparse regularisation: λ Σ √size ||w_g|| over coupled heads and neurons, proximal.

    λ is such that, without a gradient, the groups that are too many would end at zero.
    """

    share = 0.5

    def start(self, optimizer):
        levels = torch.cat([self._levels(block) for block in self.blocks])
        kept = sum(int(mask.sum()) for mask in super().masks(self.cell.count).values())
        total = sum(p.numel() for _, params, _ in self.blocks for p in params)
        surplus = max(1, round(len(levels) * (1 - kept / total)))
        rates = sum(
            finetune.rate_at(step, self.cell.steps, self.cell.rate)
            for step in range(self.cell.steps)
        )
        self.penalty = float(levels.kthvalue(surplus).values) / rates
        self.optimizer_used = optimizer

    def _levels(self, block):
        _, params, grouping = block
        params = [p.detach() for p in params]
        return grouping.norms(params) / grouping.size(params) ** 0.5

    def scores(self):
        return [self._levels(block) for block in self.blocks]

    @torch.no_grad()
    def after_step(self, step):
        rate = self.optimizer_used.param_groups[0]["lr"]
        for _, params, grouping in self.blocks:
            threshold = groups.thresholds(grouping, params, rate * self.penalty, True)
            tensors = [p.detach() for p in params]
            groups.proximal([grouping], [tensors], [threshold], [tensors])
