"""What DessiLBI found: free functions over an optimizer, all by parameter name.

Names are those of `model.named_parameters()` if the optimizer was made from them, else
"group0.1". Parameters without a penalty, and frozen ones, are always kept: they have no mask.
"""

import contextlib
import math

import torch

from groundfloor.pytorch import masking


def gammas(optimizer):
    """Γ of every penalised tensor: dict of name -> tensor (zeros before the first step)."""
    return {
        name: _state(optimizer, parameter).get("gamma", torch.zeros_like(parameter)).clone()
        for block in optimizer.blocks()
        for name, parameter in zip(block.names, block.params, strict=True)
    }


def masks(optimizer):
    """The support of Γ: dict of name -> bool tensor, True where Γ is neither zero nor NaN."""
    return {name: gamma.abs() > 0 for name, gamma in gammas(optimizer).items()}


def support(optimizer):
    """Which groups are selected: dict of the block's first name -> bool tensor, one a group."""
    return {name: entry < math.inf for name, entry in entry_times(optimizer).items()}


def entry_times(optimizer):
    """Since when each group has been in the support: dict of the block's first name -> tensor.

    In V's clock Σ lr_gamma / ν; infinite outside the support. Shape: one number a group, or the
    tensor's own shape where every entry is a group.
    """
    return {block.names[0]: _entry(optimizer, block).clone() for block in optimizer.blocks()}


def layers(optimizer):
    """One row (dict) for each block: what a table of the structure shows.

    layer: names joined by "+"; groups, selected: counts; total, nonzero: entries, and those on the
    support; density: their ratio.
    """
    rows = []
    for block in optimizer.blocks():
        selected = _entry(optimizer, block) < math.inf
        sizes = block.grouping.sizes(block.params)
        total, nonzero = int(sizes.sum()), int(sizes[selected].sum())
        rows.append(
            {
                "layer": "+".join(block.names),
                "groups": selected.numel(),
                "selected": int(selected.sum()),
                "total": total,
                "nonzero": nonzero,
                "density": nonzero / total,
            }
        )
    return rows


def density(optimizer):
    """Kept entries / all entries of all parameters in the optimizer; those without penalty kept."""
    total = _total(optimizer)
    rows = layers(optimizer)
    dropped = sum(row["total"] - row["nonzero"] for row in rows)
    return (total - dropped) / total


def ranking(optimizer):
    """All groups of all blocks in the order in which pruning keeps them.

    Groups in the support come first, the earliest first; then, and among equals, by the norm of V,
    divided by the threshold that it has to pass. Returns (order, sizes): indices (G,) into the
    blocks' groups laid end to end, and the number of entries of each group in that layout.
    """
    times, levels, sizes = [], [], []
    for block in optimizer.blocks():
        vs = [_state(optimizer, p).get("v", torch.zeros_like(p)) for p in block.params]
        times.append(_entry(optimizer, block).flatten())
        threshold = torch.as_tensor(block.threshold())  # at 0 the norm of V itself decides
        divisor = torch.where(threshold > 0, threshold, 1.0)
        levels.append((block.grouping.norms(vs) / divisor).flatten())
        sizes.append(block.grouping.sizes(block.params).flatten())
    by_level = torch.cat(levels).sort(descending=True, stable=True).indices
    by_time = torch.cat(times)[by_level].sort(stable=True).indices
    return by_level[by_time], torch.cat(sizes)


def masks_at(optimizer, density):
    """Masks with round(density * N) entries kept, N counting every parameter in the optimizer.

    Groups are taken in the order of `ranking`, those that do not fit are passed over; where all
    that are left are larger than the rest, the masks keep fewer (`kept_entries` counts). Single
    entries always fill the number exactly, and their masks are nested.
    Raises ValueError if the parameters without penalty are more than that already.
    """
    total = _total(optimizer)
    order, sizes = ranking(optimizer)
    budget = round(density * total) - (total - int(sizes.sum()))
    if not 0 <= density <= 1 or budget < 0:
        least = 1 - int(sizes.sum()) / total
        raise ValueError(f"density must lie in [{least:.4f}, 1] here, got {density}")
    taken = _fill(sizes[order], budget)
    chosen = torch.zeros(len(sizes), dtype=torch.bool, device=sizes.device)
    chosen[order[torch.tensor(taken, dtype=torch.long, device=sizes.device)]] = True
    return _masks(optimizer, chosen)


def random_masks(masks, generator=None):
    """As many entries or whole filters as in `masks`, drawn at random in every tensor.

    A tensor whose mask is constant on every slice along its first axis keeps whole slices.
    """
    shuffled = {}
    for name, mask in masks.items():
        flat = mask.flatten(1) if mask.dim() > 1 else mask.reshape(-1, 1)
        if (flat == flat[:, :1]).all():
            order = torch.randperm(len(flat), generator=generator).to(mask.device)
            shuffled[name] = mask[order]
        else:
            order = torch.randperm(mask.numel(), generator=generator).to(mask.device)
            shuffled[name] = mask.flatten()[order].view_as(mask)
    return shuffled


def kept_entries(optimizer, masks):
    """How many of all parameters' entries `masks` keep; tensors without a mask are kept whole."""
    dropped = sum(int(mask.numel() - mask.sum()) for mask in masks.values())
    return _total(optimizer) - dropped


def restricted(optimizer, masks):
    """W where `masks` are True, zero elsewhere: dict of name -> tensor."""
    parameters = _penalised(optimizer)
    return {name: parameters[name].detach() * mask for name, mask in masks.items()}


@contextlib.contextmanager
def swapped(optimizer, weights):
    """Inside, the model holds `weights` (dict of name -> tensor); after, its own, bit for bit.

        with swapped(optimizer, restricted(optimizer, masks(optimizer))):
            accuracy = evaluate(model)

    `gammas(optimizer)` puts Γ itself in. Raises ValueError for names that are not penalised.
    """
    parameters = _penalised(optimizer)
    unknown = sorted(set(weights) - set(parameters))
    if unknown:
        raise ValueError(f"no penalised parameter {unknown[0]!r}")
    with masking.exchanged(parameters, weights):
        yield


def _penalised(optimizer):
    return {
        name: parameter
        for block in optimizer.blocks()
        for name, parameter in zip(block.names, block.params, strict=True)
    }


def _state(optimizer, parameter):
    """The state of a parameter; asking does not make an empty one."""
    return optimizer.state.get(parameter, {})


def _entry(optimizer, block):
    state = _state(optimizer, block.params[0])
    if "entry" in state:
        return state["entry"]
    return torch.full_like(block.grouping.norms([p.detach() for p in block.params]), math.inf)


def _total(optimizer):
    return sum(p.numel() for group in optimizer.param_groups for p in group["params"])


def _fill(sizes, budget):
    """Positions of the sizes that fit one after the other into the budget."""
    first = int((sizes.cumsum(0) <= budget).sum())  # these fit as they come
    taken, budget = list(range(first)), budget - int(sizes[:first].sum())
    for position, size in enumerate(sizes[first:].tolist(), first):
        if budget == 0:
            break
        if size <= budget:
            taken.append(position)
            budget -= size
    return taken


def _masks(optimizer, chosen):
    """Element masks from one bool for each group of all blocks laid end to end."""
    masks, start = {}, 0
    for block in optimizer.blocks():
        entry = _entry(optimizer, block)
        values = chosen[start : start + entry.numel()].view_as(entry)
        start += entry.numel()
        spread = block.grouping.spread(values, block.params)
        masks.update(zip(block.names, (part.contiguous() for part in spread), strict=True))
    return masks
