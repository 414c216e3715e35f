"""Masks of weights: dict of a parameter's name -> bool tensor of its shape, True for what stays."""

import contextlib

import torch


@torch.no_grad()
def apply(parameters, masks):
    """Set what is masked to zero, in place (to +0, which a packed file does not keep).

    parameters: dict of name -> tensor, as `dict(model.named_parameters())`.
    """
    for name, mask in masks.items():
        parameters[name].masked_fill_(~mask, 0.0)


def hold(optimizer, parameters, masks):
    """Keep masked weights at zero through all further steps of any torch optimizer, whatever its
    momentum and decay do.

    The masks may be changed in place. Returns a handle with `.remove()`.
    """
    apply(parameters, masks)
    return optimizer.register_step_post_hook(lambda *_: apply(parameters, masks))


@contextlib.contextmanager
def exchanged(parameters, weights):
    """Inside, the parameters hold `weights` (dict of name -> tensor); after, their own, bit for
    bit."""
    own = {name: parameters[name].detach().clone() for name in weights}
    try:
        _copy(weights, parameters)
        yield
    finally:
        _copy(own, parameters)


@torch.no_grad()
def _copy(weights, parameters):
    for name, weight in weights.items():
        parameters[name].copy_(weight)
