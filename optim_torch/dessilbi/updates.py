"""The arithmetic of a DessiLBI step on lists of tensors, in place; torch.compile sees it whole."""

import math

import torch
from torch.optim.adam import adam

from optim_torch.dessilbi import groups


def select(vs, gammas, blocks, kappa, clock):
    """Γ = κ prox(V), and the time of entry of every group, in place.

    blocks: (slice into vs, grouping, threshold, entry times) of each.
    """
    parts, groupings, thresholds, entries = zip(*blocks, strict=True)
    _, kept = groups.proximal(
        groupings, [vs[part] for part in parts], thresholds, [gammas[part] for part in parts]
    )
    if kappa != 1:
        torch._foreach_mul_(gammas, kappa)
    for entry, chosen in zip(entries, kept, strict=True):
        entry.clamp_(max=clock).masked_fill_(~chosen, math.inf)


def subtract(tensors, others, foreach):
    if foreach:
        return list(torch._foreach_sub(tensors, others))
    return [a - b for a, b in zip(tensors, others, strict=True)]


def add(tensors, others, factor, foreach):
    """tensors += factor * others, in place."""
    if isinstance(factor, torch.Tensor):
        others, factor = torch._foreach_mul(others, factor.reshape(())), 1
    if foreach:
        torch._foreach_add_(tensors, others, alpha=factor)
    else:
        for tensor, other in zip(tensors, others, strict=True):
            tensor.add_(other, alpha=factor)


def move_adaptively(states, difference, lr_gamma, nu, foreach):
    """V += lr_gamma times Adam's direction of difference / ν, in place.

    states: of the parameters, dicts that hold v and Adam's own v_exp_avg, v_exp_avg_sq and v_step,
    which are made where they are missing.
    """
    for state in states:
        if "v_step" not in state:
            state["v_exp_avg"] = torch.zeros_like(state["v"])
            state["v_exp_avg_sq"] = torch.zeros_like(state["v"])
            state["v_step"] = torch.zeros((), dtype=torch.float32)
    adam(
        [state["v"] for state in states],
        [part / nu for part in difference],
        [state["v_exp_avg"] for state in states],
        [state["v_exp_avg_sq"] for state in states],
        [],
        [state["v_step"] for state in states],
        foreach=foreach and not isinstance(lr_gamma, torch.Tensor),
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=lr_gamma,
        weight_decay=0.0,
        eps=1e-8,
        maximize=True,
    )
