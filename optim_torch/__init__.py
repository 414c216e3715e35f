"""DessiLBI as a PyTorch optimizer, and what it finds in networks."""

from optim_torch.dessilbi import DessiLBI

__all__ = ["DessiLBI"]
