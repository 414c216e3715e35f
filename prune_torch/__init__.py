"""A Vision Transformer pruned to many densities by many methods, under one protocol.

    model = prune_torch.load("neurons-d0.5-s0.safetensors")     # timm's own, really smaller
    model = prune_torch.load("neurons-elastic.safetensors", density=0.3)

PyTorch and timm are imported when they are asked for.
"""

from groundfloor.interrupts import quiet_imports

quiet_imports()

__all__ = ["load"]


def load(path, density=None, device="cpu"):
    """The timm model in a file of a sweep, without hooks or masks, in evaluation mode.

    density: of a file of --elastic, nonzero parameters / all parameters. Raises UserError that
    names the file.
    """
    from prune_torch import compact, elastic

    return compact.load(path, device) if density is None else elastic.load(path, density, device)
