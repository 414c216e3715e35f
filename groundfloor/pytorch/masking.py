"""Masks of weights: dict of a parameter's name -> bool tensor of its shape, True for what stays."""

import contextlib

import torch


def top_masks(scores, count):
    """Masks that keep the `count` largest scores over all tensors, ties by order.

    scores: dict of name -> tensor (any real dtype; -inf never wins before anything finite).
    Exactly `count` entries are True: equal scores are taken in the order of tensors and entries.
    """
    flat = torch.cat([score.detach().flatten() for score in scores.values()])
    if not 0 <= count <= len(flat):
        raise ValueError(f"cannot keep {count} of {len(flat)} weights")
    mask = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    if count:
        # The k-th largest, then as many of its equals, from the front, as are still wanted.
        level = flat.kthvalue(len(flat) - count + 1).values
        mask = flat > level
        equal = (flat == level).nonzero().flatten()
        mask[equal[: count - int(mask.sum())]] = True
    parts = mask.split([score.numel() for score in scores.values()])
    return {n: part.view_as(scores[n]) for n, part in zip(scores, parts, strict=True)}


def largest(weights, like):
    """Masks of the largest weights over all tensors that `like` names, as many as its masks keep.

    weights: dict of name -> tensor."""
    sizes = {name: weights[name].detach().abs() for name in like}
    return top_masks(sizes, sum(int(mask.sum()) for mask in like.values()))


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
