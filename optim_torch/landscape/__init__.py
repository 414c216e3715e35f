"""How smooth is the loss along the gradient? `probe` is the instrument."""

from optim_torch.landscape.probing import probe

__all__ = ["probe"]
