"""A Vision Transformer pruned to many densities by many methods, under one protocol.

    model = prune_torch.load("neurons-d0.5-s0.safetensors")     # timm's own, really smaller

PyTorch and timm are imported when they are asked for.
"""

from groundfloor.interrupts import quiet_imports

quiet_imports()

__all__ = ["load"]


def __getattr__(name):
    if name == "load":
        from prune_torch.compact import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
