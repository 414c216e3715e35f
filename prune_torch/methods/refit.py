"""Weights that stay are fitted anew, block by block, to what the dense network's blocks give.

After SNOWS (Lucas and Mazumder, ICLR 2025, arXiv 2411.18376), which works on any mask: minimise the
squared error of a block's output over the weights that stay, without a Hessian. Here a block gets
the outputs of the fitted blocks before it, its aim is the dense block's own output, and the
minimiser is L-BFGS. No labels are used.
"""

import copy

import torch

from groundfloor.pytorch import masking
from prune_torch.methods.base import Method
from prune_torch.methods.magnitude import Magnitude
from prune_torch.methods.two_four import TwoFour
from prune_torch.methods.wanda import Wanda

LOOKED_AT = 4  # batches of training images
ITERATIONS = 12  # of L-BFGS, for each block


class Refitted(Method):
    """Before another method: its masks, and then the fit."""

    rewrites = True

    def masks(self, count):
        """Masks as in `Method.masks`; the weights that stay are changed in place."""
        cell, dense = self.cell, copy.deepcopy(self.cell.model).eval()
        masks = self.allowed(super().masks(count))
        masking.apply(cell.parameters, masks)
        cell.model.eval()
        batches = [cell.task.batch(cell.seed, number)[0] for number in range(LOOKED_AT)]
        inputs, aims = (_before_blocks(model, torch.cat(batches)) for model in (cell.model, dense))
        for number, block in enumerate(cell.model.blocks):
            with torch.no_grad():
                aims = dense.blocks[number](aims)
            prefix = f"blocks.{number}."
            own = {name: mask for name, mask in masks.items() if name.startswith(prefix)}
            weights = {name: cell.parameters[name] for name in own}
            # A pass through one block is a share of one through the network.
            self.passes += LOOKED_AT * fit(block, weights, own, inputs, aims) / len(dense.blocks)
            with torch.no_grad():
                inputs = block(inputs)
        self.passes = round(self.passes)
        return masks


def fit(module, weights, masks, inputs, aims):
    """Minimise the mean squared error of module(inputs) to `aims` over the weights in their masks.

    weights, masks: dicts of name -> parameter of the module, and bool tensor; changed in place,
    zero outside the masks, never worse than before. Returns how often the error was computed.
    """
    calls, chosen = 0, list(weights.values())
    optimizer = torch.optim.LBFGS(
        chosen, max_iter=ITERATIONS, history_size=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def error():
        nonlocal calls
        calls += 1
        loss = (module(inputs) - aims).square().mean() / scale
        gradients = torch.autograd.grad(loss, chosen)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            weight.grad = gradient * masks[name]  # so that no step leaves the masks
        return loss

    with torch.no_grad():
        scale = (module(inputs) - aims).square().mean()
    if chosen and scale > 0:
        optimizer.step(error)
    for weight in chosen:
        weight.grad = None
    masking.apply(weights, masks)
    return calls


@torch.no_grad()
def _before_blocks(model, images):
    """What the first block of a timm ViT takes in."""
    taken = []

    def take(_, inputs):
        taken.append(inputs[0])

    handle = model.blocks[0].register_forward_pre_hook(take)
    try:
        model(images)
    finally:
        handle.remove()
    return taken[0]


class MagnitudeRefit(Refitted, Magnitude):
    """Global magnitude, refitted."""


class WandaRefit(Refitted, Wanda):
    """Wanda, refitted."""


class TwoFourRefit(Refitted, TwoFour):
    """2:4, refitted."""
