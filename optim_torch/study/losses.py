"""Losses of classifiers and their regularisers, by names such as "smoothing+l2"."""

import torch
from torch.nn import functional as F

FOCUS = 2.0  # Lin et al. 2017 found 2 best


def smoothing(logits, labels, share=0.1):
    """Cross-entropy, a share of the probability spread over all classes (Szegedy et al. 2016)."""
    return F.cross_entropy(logits, labels, label_smoothing=share)


def squared(logits, labels):
    """Mean squared difference of the logits and the one-hot label."""
    return F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits))


def focal(logits, labels):
    """Cross-entropy weighted by (1 - p)^2: what is right already counts less (Lin et al. 2017)."""
    surprise = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - torch.exp(-surprise)) ** FOCUS * surprise).mean()


LOSSES = {  # name: (logits (n, classes), labels (n,)) -> mean loss
    "cross-entropy": F.cross_entropy,
    "smoothing": smoothing,
    "squared": squared,
    "focal": focal,
}
REGULARISERS = ("l2", "decoupled", "l1")


def parse(name):
    """ "smoothing+l2" -> (the loss, {"l2"}); ValueError for unknown names."""
    loss, *kinds = name.split("+")
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; losses: {', '.join(LOSSES)}")
    for kind in kinds:
        if kind not in REGULARISERS:
            raise ValueError(f"unknown regulariser {kind!r}; add {', '.join(REGULARISERS)}")
    return LOSSES[loss], frozenset(kinds)


@torch.no_grad()
def regularise(weights, kinds, strengths, factor):
    """Between backward and the optimizer's step: add the regularisers' gradients, shrink weights.

    strengths: dict of λ. "l2" is the loss λ/2 |W|², "l1" the loss λ Σ|w|; "decoupled" multiplies W
    by 1 - λ factor, where the factor is the schedule's, in [0, 1], without the learning rate
    (Loshchilov and Hutter 2019): one λ serves optimizers of different rates.
    """
    gradients = [weight.grad for weight in weights]
    if "l2" in kinds:
        torch._foreach_add_(gradients, weights, alpha=strengths["l2"])
    if "l1" in kinds:
        torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=strengths["l1"])
    if "decoupled" in kinds:
        torch._foreach_mul_(weights, 1 - strengths["decoupled"] * factor)
