"""Whole heads, neurons and blocks: by Taylor importance, and by group lasso."""

import re
from collections import Counter

import torch

from optim_torch.dessilbi import groups
from optim_torch.dessilbi.vit_groups import vit_groups
from prune_torch.methods.base import BATCHES, Method
from prune_torch.protocol import finetune


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

    def refusal(self):
        total = sum(p.numel() for p in self.cell.model.parameters())
        least = total - sum(p.numel() for p in self.cell.parameters.values()) + self._untouched()
        if self.cell.count < self._untouched():
            return f"{least / total:.3f} of the parameters stay, whatever goes"
        return None

    def choose(self, scores, sizes, free):
        """bool (groups,): the best scores whose sizes together are at most `free`."""
        chosen = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        for i in scores.sort(descending=True, stable=True).indices.tolist():
            if sizes[i] <= free:
                chosen[i] = True
                free -= sizes[i]
        return chosen

    def chosen(self, scores, count):
        """Which groups stay if `count` weights may, from the scores of all: bool (groups,)."""
        sizes = [size for block in self.blocks for size in self._sizes(block)]
        return self.choose(scores, sizes, count - self._untouched())

    def masks(self, count):
        chosen = self.chosen(torch.cat(self.scores()), count)
        masks = {}
        parts = chosen.split([block[2].count for block in self.blocks])
        for (names, params, grouping), part in zip(self.blocks, parts, strict=True):
            spread = grouping.spread(part, params)
            masks.update(zip(names, (mask.contiguous() for mask in spread), strict=True))
        return masks

    def _weights(self, block):
        """Prunable weights of one group of a block."""
        names, params, grouping = block
        inside = sum(
            p.numel() for n, p in zip(names, params, strict=True) if n in self.cell.parameters
        )
        return inside // grouping.count

    def _sizes(self, block):
        """Weights of each group of a block that count: prunable, and not zero from the start."""
        names, params, grouping = block
        held = self.cell.held
        if not held:
            return [self._weights(block)] * grouping.count
        inside = [
            held[n].float() if n in held else torch.zeros_like(p)
            for n, p in zip(names, params, strict=True)
        ]
        return group_sums(inside, grouping).round().int().tolist()

    def _untouched(self):
        """Prunable weights that belong to no group: they stay."""
        touched = {name for names, _, _ in self.blocks for name in names}
        return sum(size for name, size in self.sizes().items() if name not in touched)


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


class WholeBlocks:
    """Chooses whole transformer blocks, attention and MLP together, by their mean score."""

    def choose(self, scores, sizes, free):
        owner = torch.tensor(
            [number for number, block in self._numbered() for _ in range(block[2].count)],
            device=scores.device,
        )
        sizes = torch.tensor(sizes, device=scores.device)
        numbers = owner.unique()
        means = torch.stack([scores[owner == number].mean() for number in numbers])
        whole = [int(sizes[owner == number].sum()) for number in numbers]
        return torch.isin(owner, numbers[super().choose(means, whole, free)])

    def _numbered(self):
        """Pairs of a transformer block's number and one of its two blocks of groups."""
        return [(int(re.search(r"blocks\.(\d+)\.", b[0][0])[1]), b) for b in self.blocks]


class Blocks(WholeBlocks, Taylor):
    """Whole blocks by Taylor importance."""


class GroupLasso(Structured):
    """Sparse regularisation: λ Σ √size ||w_g|| over coupled heads and neurons, proximal.

    λ is such that, without a gradient, the groups that are too many would end at zero.
    """

    share = 0.5
    debias = True

    def start(self, optimizer):
        levels = self.dense_levels = torch.cat(self.scores())
        surplus = levels[~self.chosen(levels, self.cell.count)]
        way = finetune.total_rate(self.cell.steps, self.cell.whole, self.cell.rate)
        self.penalty = float(surplus.max()) / way if len(surplus) else 0.0
        self.optimizer_used = optimizer

    def scores(self):
        """||w_g|| / √size of every group."""
        return [
            grouping.norms([p.detach() for p in params]) / grouping.size(params) ** 0.5
            for _, params, grouping in self.blocks
        ]

    def chosen(self, scores, count):
        """Among groups that the penalty has taken to zero those that were largest before."""
        before = self.dense_levels - 1 - self.dense_levels.max()
        return super().chosen(scores.where(scores > 0, before), count)

    @torch.no_grad()
    def after_step(self, step):
        scores = self.scores()
        threshold = self.threshold(torch.cat(scores), step)
        for (_, params, grouping), level in zip(self.blocks, scores, strict=True):
            tensors = [p.detach() for p in params]
            factor = torch.where(level > threshold, 1 - threshold / level, 0)
            grouping.scale(tensors, factor, tensors)

    def threshold(self, levels, step):
        """What the proximal map of a step takes from the levels of all groups."""
        return self.optimizer_used.param_groups[0]["lr"] * self.penalty


class BlockLasso(WholeBlocks, GroupLasso):
    """Group lasso over whole transformer blocks."""

    def scores(self):
        """The same for all groups of a block: its norm over the root of its size."""
        squares, sizes = Counter(), Counter()
        for number, (_, params, _) in self._numbered():
            squares[number] += sum(p.detach().square().sum() for p in params)
            sizes[number] += sum(p.numel() for p in params)
        return [
            (squares[number] / sizes[number]).sqrt().expand(block[2].count)
            for number, block in self._numbered()
        ]
