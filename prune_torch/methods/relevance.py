"""Pruning by explaining (Yeom et al. 2021; Hatefi et al. 2024): keep what predictions came from.

Layer-wise relevance propagation hands a class's output back through the network. In its form for
transformers (AttnLRP, Achtibat et al., ICML 2024) it is gradient times input of a network in which
some parts count as constants: the deviation that a norm divides by, the gate x -> act(x) / x of an
activation; and a product of two activations gives each of them half.
"""

import copy

import torch
from timm.layers import Attention
from torch import nn

from groundfloor.pytorch import masking
from prune_torch.methods.base import BATCHES, Method


class Relevance(Method):
    """|Σ over images of a weight's relevance for the true class|."""

    def masks(self, count):
        model, parameters = explained(self.cell.model), self.cell.parameters
        for number in range(BATCHES):
            inputs, labels = self.cell.task.batch(self.cell.seed, number)
            model(inputs).gather(1, labels[:, None]).sum().backward()
        self.passes += BATCHES
        scores = {n: relevance(model.get_parameter(n)).abs() for n in parameters}
        return masking.top_masks(scores, count)


def relevance(weight):
    """w_ij times the gradient: Σ over tokens of (w_ij x_j / z_i) R_i, z = W x + b, R_i of z_i."""
    return (weight * weight.grad).detach()


def explained(model):
    """A copy of a timm ViT with the same outputs, whose gradient times input is relevance."""
    model = copy.deepcopy(model).eval()
    model.zero_grad()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.LayerNorm):
            layer.register_forward_hook(_constant_deviation)
        elif isinstance(layer, Attention):
            layer.fused_attn = False  # the weights of attention are asked for
            layer.qkv.register_forward_hook(_halved)
            layer.attn_drop.register_forward_hook(_halved)
        elif name.endswith(".act"):
            layer.register_forward_hook(_constant_gate)
    return model


def _constant_deviation(norm, inputs, output):
    centred = inputs[0] - inputs[0].mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt().detach()
    scaled = centred / deviation * norm.weight
    return scaled if norm.bias is None else scaled + norm.bias


def _constant_gate(layer, inputs, output):
    x = inputs[0]
    gate = torch.where(x == 0, 0.0, output / torch.where(x == 0, 1.0, x)).detach()
    return x * gate + (output - x * gate).detach()


def _halved(layer, inputs, output):
    """The same value, half the gradient."""
    return (output + output.detach()) / 2
