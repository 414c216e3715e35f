"""DessiLBI as a PyTorch optimizer, and what it finds in networks.

Torch is imported when the optimizer is asked for: `optim_torch.robust` does without it.
"""

from groundfloor.interrupts import quiet_imports

quiet_imports()

__all__ = ["DessiLBI", "structure", "vit_groups"]


def __getattr__(name):
    if name == "DessiLBI":
        from optim_torch.dessilbi.optimizer import DessiLBI

        return DessiLBI
    if name == "structure":
        from optim_torch.dessilbi import structure

        return structure
    if name == "vit_groups":
        from optim_torch.dessilbi.vit_groups import vit_groups

        return vit_groups
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
