"""Density: nonzero parameters / all parameters, met to the last weight.

All parameters count, embeddings, norms, biases and head included (the course's "sparsity level").
Only the prunable ones may become zero; by default these are the matrices of the blocks.
"""

import re

from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from groundfloor.pytorch import masking

PRUNABLE = {  # what may become zero: pattern of parameter names
    "blocks": r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])\.weight",
    "matrices": r"(blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])|patch_embed\.proj|head)\.weight",
}
MAKERS = (prune.BasePruningMethod, WeightNorm, SpectralNorm)  # hooks that make a weight


def prunable(model, kind="blocks"):
    """The parameters that may become zero: dict of name -> parameter, in the model's order.

    Raises ValueError if there are none, and as `refuse_masked`.
    """
    refuse_masked(model)
    pattern = re.compile(PRUNABLE[kind])
    parameters = {n: p for n, p in model.named_parameters() if pattern.fullmatch(n)}
    if not parameters:
        raise ValueError("no prunable parameters; is it a timm Vision Transformer?")
    return parameters


def refuse_masked(model):
    """ValueError naming the first layer whose weight is not a parameter, but made from others.

    So are those that torch.nn.utils.prune masks, parametrised ones, weight and spectral norm.
    """
    for name, layer in model.named_modules():
        hooks = layer._forward_pre_hooks.values()
        if any(isinstance(hook, MAKERS) for hook in hooks) or parametrize.is_parametrized(layer):
            raise ValueError(
                f"{name} is masked or parametrised: make it permanent first "
                "(torch.nn.utils.prune.remove, parametrize.remove_parametrizations)"
            )


def budget(model, density, kind="blocks"):
    """How many prunable weights stay, so that round(density * all) parameters are nonzero.

    Raises ValueError if what stays dense is more than that, or density is outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must lie in (0, 1], got {density}")
    total = sum(p.numel() for p in model.parameters())
    dense = total - sum(p.numel() for p in prunable(model, kind).values())
    count = round(density * total) - dense
    if count < 0:
        raise ValueError(
            f"density {density} is not reachable: {dense / total:.4f} of the parameters stay dense"
        )
    return count


def layer_masks(scores, counts):
    """`masking.top_masks` of each tensor by itself; counts: dict of name -> entries to keep."""
    return {n: masking.top_masks({n: score}, counts[n])[n] for n, score in scores.items()}


def shared_out(sizes, weights, count):
    """Split `count` over tensors: dict of name -> number, in proportion, none above its size.

    sizes: dict of name -> entries; weights: dict of name -> density wanted, up to a common factor.
    What does not fit into one goes to the others; rounding by largest remainder, ties by order.
    """
    full = set()
    while True:
        free = [n for n in sizes if n not in full]
        left = count - sum(sizes[n] for n in full)
        whole = sum(weights[n] * sizes[n] for n in free)
        scale = left / whole if whole else 0.0
        over = [n for n in free if scale * weights[n] > 1]
        if not over:
            break
        full.update(over)
    exact = {n: float(sizes[n]) if n in full else scale * weights[n] * sizes[n] for n in sizes}
    counts = {n: int(value) for n, value in exact.items()}
    order = sorted(free, key=lambda n: counts[n] - exact[n])
    missing = count - sum(counts.values())
    for name in order[:missing]:
        counts[name] += 1
    return counts


def erdos_renyi(tensors):
    """Densities in proportion to the sum of a tensor's sides over its size, of a matrix
    (rows + columns) / (rows * columns): ERK (Evci et al. 2020)."""
    return {n: sum(t.shape) / t.numel() for n, t in tensors.items()}


def count(model, parts=()):
    """What is in the model as it is: a dict of nonzero, total, density_all and density_blocks, that
    of the blocks' matrices. ValueError as `prunable`.

    parts: name -> `factored.Parts` of weights that are kept in parts; these count instead.
    """
    blocks, parts = prunable(model), dict(parts)
    nonzero = {
        name: parts[name].nonzero() if name in parts else int(p.count_nonzero())
        for name, p in model.named_parameters()
    }
    total = sum(p.numel() for p in model.parameters())
    return {
        "nonzero": sum(nonzero.values()),
        "total": total,
        "density_all": sum(nonzero.values()) / total,
        "density_blocks": sum(nonzero[name] for name in blocks)
        / sum(p.numel() for p in blocks.values()),
    }
