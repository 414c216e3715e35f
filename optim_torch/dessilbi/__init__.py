"""DessiLBI: the optimizer, its groups, and the structure that it finds."""

from optim_torch.dessilbi.optimizer import DessiLBI

__all__ = ["DessiLBI"]
