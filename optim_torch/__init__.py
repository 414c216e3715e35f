"""DessiLBI as a PyTorch optimizer, and what it finds in networks.

Torch is imported when the optimizer is asked for: `optim_torch.linear` needs NumPy and SciPy alone.
"""

from common.interrupts import quiet_imports

quiet_imports()

__all__ = ["DessiLBI"]


def __getattr__(name):
    if name == "DessiLBI":
        from optim_torch.dessilbi import DessiLBI

        return DessiLBI
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
