"""The loss on a plane through the weights, with filter-normalised directions (Li et al. 2018).

A direction is drawn for each weight from the normal distribution; then each of its filters (of a
matrix: each row) is scaled to the norm of the network's own filter. Biases and the parameters of
norms stay where they are. Then a step of 1 is as long as the weights, whatever their scale.

That rests on BatchNorm making the loss independent of the weights' scale, so BatchNorm takes its
statistics from the images at each point, as in training; its buffers come back bit for bit.
"""

import contextlib

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from groundfloor import seeds


def direction(model, seed, which):
    """A random direction, dict of name -> tensor like the parameter of two axes or more.

    which: "first" or "second", streams of the seed that have nothing in common.
    """
    generator = torch.Generator().manual_seed(seeds.fold(seed, "direction", which))
    directions = {}
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            drawn = torch.randn(weight.shape, generator=generator).to(weight)
            axes = tuple(range(1, weight.dim()))
            length = torch.linalg.vector_norm(weight.detach(), dim=axes, keepdim=True)
            directions[name] = drawn * (
                length / torch.linalg.vector_norm(drawn, dim=axes, keepdim=True)
            )
    return directions


@torch.no_grad()
def surface(model, inputs, labels, points=21, radius=1.0, seed=0):
    """Mean cross-entropy at W + a D1 + b D2 for a and b in [-radius, radius].

    inputs (n, c, h, w), labels (n,): one batch. points: a side of the grid.
    Returns (steps (points,), loss (points, points)): loss[i, j] belongs to a = steps[j] and
    b = steps[i]. The network comes back as it was.
    """
    steps = np.linspace(-radius, radius, points)
    loss = np.zeros((points, points))
    first, second = direction(model, seed, "first"), direction(model, seed, "second")
    weights = {name: p.detach().clone() for name, p in model.named_parameters() if name in first}
    parameters = dict(model.named_parameters())
    with _batch_statistics(model):
        try:
            for i, b in enumerate(steps):
                for j, a in enumerate(steps):
                    for name, weight in weights.items():
                        moved = weight + float(a) * first[name] + float(b) * second[name]
                        parameters[name].copy_(moved)
                    loss[i, j] = float(F.cross_entropy(model(inputs), labels))
        finally:
            for name, weight in weights.items():
                parameters[name].copy_(weight)
    return steps, loss


@contextlib.contextmanager
def _batch_statistics(model):
    """Inside, BatchNorm normalises by the batch and dropout is off; after, all is as before."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
