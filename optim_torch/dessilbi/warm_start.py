"""Starting Γ at the weights of a pretrained network."""

import math

import torch

from optim_torch.dessilbi import groups


@torch.no_grad()
def warm_start(optimizer, density):
    """`DessiLBI.warm_start`: Γ takes over the groups with the largest root mean square."""
    if not 0 <= density <= 1:
        raise ValueError(f"density must lie in [0, 1], got {density}")
    blocks = list(optimizer.blocks())
    sizes = [block.grouping.sizes(block.params).flatten() for block in blocks]
    means = [
        block.grouping.norms(block.params).flatten() / size.sqrt()
        for block, size in zip(blocks, sizes, strict=True)
    ]
    order = torch.cat(means).sort(descending=True, stable=True).indices
    sizes = torch.cat(sizes)
    taken = torch.zeros_like(sizes, dtype=torch.bool)
    taken[order] = sizes[order].cumsum(0) <= round(density * int(sizes.sum()))
    for block, chosen in zip(blocks, taken.split([len(mean) for mean in means]), strict=True):
        chosen = chosen.view_as(block.grouping.norms(block.params))
        masks = block.grouping.spread(chosen, block.params)
        gammas = [p * mask for p, mask in zip(block.params, masks, strict=True)]
        chosen = chosen & (block.grouping.norms(gammas) > 0)
        threshold, kappa = block.threshold(), block.group["kappa"]
        vs = groups.inverse_proximal(block.grouping, gammas, threshold, kappa)
        for parameter, v, gamma in zip(block.params, vs, gammas, strict=True):
            optimizer.state[parameter].update(v=v, gamma=gamma)
        optimizer.state[block.params[0]]["entry"] = torch.where(chosen, 0.0, math.inf)
