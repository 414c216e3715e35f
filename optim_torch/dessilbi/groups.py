"""Groups of weights that are selected or dropped together, and their proximal maps.

A grouping belongs to a list of tensors (mostly one) and divides all their entries among G groups:

    Entries          every entry by itself
    Slices           along one axis of each tensor; slice g of every tensor is group g
    Labels           any partition: a group number for every entry

`norms(tensors)` gives the l2 norm of each group, `spread(values, tensors)` hands each group's
number to all its entries, `sizes(tensors)` counts them. Entries keeps the tensor's own shape for
its groups, the others have shape (G,).
"""

import math
from dataclasses import dataclass

import torch

NAMES = ("auto", "l1", "filter", "column", "layer", "none")


@dataclass(frozen=True)
class Entries:
    """Every entry of one tensor is a group: the penalty is the l1 norm."""

    def norms(self, tensors):
        return tensors[0].abs()

    def spread(self, values, tensors):
        return [values]

    def sizes(self, tensors):
        return torch.ones_like(tensors[0], dtype=torch.long)


class _Several:
    """What the groupings of several entries a group have in common."""

    def scale(self, tensors, factors, out):
        """out = tensors, each entry times its group's factor; the tensors in any layout."""
        spread = self.spread(factors, tensors)
        for tensor, factor, result in zip(tensors, spread, out, strict=True):
            torch.mul(tensor, factor, out=result)


@dataclass(frozen=True)
class Slices(_Several):
    """Group g is slice g along `axis` of each tensor, seen in the shape given beside it."""

    views: tuple  # one (shape, axis) for each tensor

    def norms(self, tensors):
        parts = []
        for tensor, (shape, axis) in zip(tensors, self.views, strict=True):
            others = [i for i in range(len(shape)) if i != axis]
            view = tensor if tensor.shape == shape else tensor.reshape(shape)
            parts.append(torch.linalg.vector_norm(view, dim=others) if others else view.abs())
        if len(parts) == 1:
            return parts[0]
        return torch.linalg.vector_norm(torch.stack(parts), dim=0)

    def spread(self, values, tensors):
        spread = []
        for tensor, (shape, axis) in zip(tensors, self.views, strict=True):
            along = [-1 if i == axis else 1 for i in range(len(shape))]
            spread.append(values.reshape(along).expand(shape).reshape(tensor.shape))
        return spread

    @property
    def count(self):
        shape, axis = self.views[0]
        return shape[axis]

    def size(self, tensors):
        return sum(tensor.numel() for tensor in tensors) // self.count

    def sizes(self, tensors):
        return torch.full((self.count,), self.size(tensors), device=tensors[0].device)


@dataclass(frozen=True, eq=False)
class Labels(_Several):
    """`ids` (N,) int64 numbers the group of each entry of the tensors laid end to end."""

    ids: torch.Tensor
    count: int

    def norms(self, tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        squares = torch.zeros(self.count, dtype=flat.dtype, device=flat.device)
        return squares.index_add_(0, self.ids.to(flat.device), flat.square()).sqrt()

    def spread(self, values, tensors):
        parts = values[self.ids.to(values.device)].split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def sizes(self, tensors):
        return torch.bincount(self.ids, minlength=self.count).to(tensors[0].device)


def proximal(groupings, tensors, thresholds, out=None):
    """The proximal map of threshold * (sum of group norms), for several groupings at once.

    Entries: soft threshold. Groups: v * max(0, 1 - threshold / ||v_g||).
    groupings, tensors, thresholds: for each grouping its list of tensors, and a number or one for
        each group. out: where to write, as `tensors`; none makes new ones.
    Returns (out, kept): the results, and for each grouping which groups are not zero in them (NaN
    counts as zero).
    """
    if out is None:
        out = [[torch.empty_like(tensor) for tensor in members] for members in tensors]
    kept = [None] * len(groupings)
    alike = {}  # numbers of groupings, by device and dtype
    for i, grouping in enumerate(groupings):
        if isinstance(grouping, Entries):
            torch.ops.aten.softshrink.out(tensors[i][0], thresholds[i], out=out[i][0])
            kept[i] = out[i][0].abs() > 0
        else:
            alike.setdefault((tensors[i][0].device, tensors[i][0].dtype), []).append(i)
    for numbers in alike.values():
        # One vector for the norms of all groups: many layers cost hardly more than one.
        levels = torch.cat([_levels(groupings[i], tensors[i], thresholds[i]) for i in numbers])
        factors = (1 - 1 / levels).clamp_min(0)
        sizes = [groupings[i].count for i in numbers]
        alive = (factors > 0).split(sizes)
        for i, factor, chosen in zip(numbers, factors.split(sizes), alive, strict=True):
            kept[i] = chosen
            groupings[i].scale(tensors[i], factor, out[i])
    return out, kept


def _levels(grouping, tensors, threshold):
    """Norms over thresholds; a threshold of zero keeps all but zeros."""
    norms = grouping.norms(tensors)
    tiny = torch.finfo(norms.dtype).tiny
    if isinstance(threshold, torch.Tensor):
        return norms / threshold.clamp_min(tiny)
    return norms / max(threshold, tiny)


def inverse_proximal(grouping, gammas, threshold, kappa):
    """V with kappa * proximal(V) = gammas: the smallest one, zero where a group is zero.

    V = gamma / kappa * (1 + threshold * kappa / ||gamma_g||); entrywise this is
    gamma / kappa + threshold * sign(gamma).
    """
    norms = grouping.norms(gammas)
    growth = torch.where(norms > 0, 1 + threshold * kappa / norms, 0)
    return [
        gamma / kappa * factor
        for gamma, factor in zip(gammas, grouping.spread(growth, gammas), strict=True)
    ]


def thresholds(grouping, tensors, threshold, scale_by_size):
    """The threshold of each group: `threshold`, times the square root of its size if asked for."""
    if not scale_by_size or isinstance(grouping, Entries):
        return threshold
    if isinstance(grouping, Slices):
        return threshold * math.sqrt(grouping.size(tensors))
    return threshold * grouping.sizes(tensors).sqrt()


class Block:
    """Tensors that one grouping divides.

    names, params: of the tensors. grouping: see groups.py. group: their parameter group.
    """

    def __init__(self, names, params, grouping, group):
        self.names, self.params, self.grouping, self.group = names, params, grouping, group

    def threshold(self):
        """What a group's norm of V has to pass: one number, or one for each group."""
        return thresholds(
            self.grouping, self.params, self.group["threshold"], self.group["scale_by_size"]
        )


def partition(penalty, tensors):
    """How `penalty` divides `tensors`: a list of (positions of its tensors, grouping).

    penalty: one of NAMES, the same for every tensor; or a list of index tensors or lists, each
        the entries of one group counted through all tensors laid end to end, together every entry
        once; or {"slices": [(shape, axis), ...]}, one view for each tensor (plain numbers, so that
        a state_dict can hold it).
    "auto": rank 2 entrywise, higher ranks by filter if there are several filters, the rest (biases,
        norms, class tokens and position embeddings) left out, as "none" leaves out everything.
    Raises ValueError for a penalty that does not fit.
    """
    everything = tuple(range(len(tensors)))
    if isinstance(penalty, dict):
        return [(everything, _coupled_slices(penalty, tensors))]
    if isinstance(penalty, (list, tuple)):
        return [(everything, _labels(penalty, tensors))]
    if penalty not in NAMES:
        raise ValueError(f"penalty must be one of {', '.join(NAMES)} or groups, got {penalty!r}")
    grouped = ((position, _grouping(penalty, tensor)) for position, tensor in enumerate(tensors))
    return [((position,), grouping) for position, grouping in grouped if grouping is not None]


def _grouping(penalty, tensor):
    shape = tuple(tensor.shape)
    if penalty == "auto":
        several = len(shape) > 2 and shape[0] > 1
        penalty = "l1" if len(shape) == 2 else "filter" if several else "none"
    if penalty == "none" or tensor.numel() == 0:
        return None
    if not tensor.is_floating_point():
        raise ValueError(f"a penalty needs real parameters, got {tensor.dtype}")
    if penalty == "l1":
        return Entries()
    if penalty == "layer":
        return Slices((((1, tensor.numel()), 0),))
    axis = ("filter", "column").index(penalty)
    if len(shape) <= axis:
        raise ValueError(
            f"penalty {penalty!r} needs at least {axis + 1} dimensions, got shape {shape}"
        )
    return Slices(((shape, axis),))


def _coupled_slices(penalty, tensors):
    views = tuple((tuple(shape), axis) for shape, axis in penalty.get("slices", ()))
    if len(views) != len(tensors):
        raise ValueError(f"{len(views)} views for {len(tensors)} tensors in the penalty's slices")
    for (shape, axis), tensor in zip(views, tensors, strict=True):
        if math.prod(shape) != tensor.numel() or not 0 <= axis < len(shape):
            raise ValueError(
                f"the view {shape} along axis {axis} does not fit shape {tuple(tensor.shape)}"
            )
    counts = sorted({shape[axis] for shape, axis in views})
    if len(counts) > 1:
        raise ValueError(f"coupled tensors have different numbers of slices: {counts}")
    return Slices(views)


def _labels(groups, tensors):
    total = sum(tensor.numel() for tensor in tensors)
    groups = [torch.as_tensor(group, dtype=torch.long).reshape(-1).cpu() for group in groups]
    entries = torch.cat(groups) if groups else torch.empty(0, dtype=torch.long)
    if entries.numel() != total or not torch.equal(entries.sort().values, torch.arange(total)):
        raise ValueError(
            f"index groups must hold each of the {total} entries once, from 0 to {total - 1}"
        )
    sizes = torch.tensor([group.numel() for group in groups])
    ids = torch.empty(total, dtype=torch.long)
    ids[entries] = torch.repeat_interleave(torch.arange(len(groups)), sizes)
    return Labels(ids.to(tensors[0].device), len(groups))
