"""AdamW, an optimizer written by hand (Loshchilov and Hutter 2019, algorithm 2).

With gradient g at step t and the rate α, for every weight w:

    m <- β1 m + (1 - β1) g          v <- β2 v + (1 - β2) g²
    w <- (1 - α λ) w - α (m / (1 - β1^t)) / (sqrt(v / (1 - β2^t)) + ε)

It is torch.optim.AdamW to float rounding, in a page: what to copy for an optimizer of one's own.
"""

import torch
from torch.optim import Optimizer


class AdamW(Optimizer):
    """Use it like any other optimizer: groups, schedulers, state_dict.

    lr: α. betas: (β1, β2). eps: ε. weight_decay: λ, decoupled from the gradient.
    ValueError for impossible options.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        if not lr >= 0 or not eps >= 0 or not weight_decay >= 0:
            raise ValueError("lr, eps and weight_decay must be at least 0")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), got {betas}")
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure=None):
        """One step; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight, gradient, group):
        state = self.state[weight]
        if not state:
            state.update(step=0, m=torch.zeros_like(weight), v=torch.zeros_like(weight))
        state["step"] += 1
        rate, (beta1, beta2) = group["lr"], group["betas"]
        mean = state["m"].lerp_(gradient, 1 - beta1) / (1 - beta1 ** state["step"])
        square = state["v"].lerp_(gradient.square(), 1 - beta2) / (1 - beta2 ** state["step"])
        weight.mul_(1 - rate * group["weight_decay"])
        weight.sub_(rate * mean / (square.sqrt() + group["eps"]))
