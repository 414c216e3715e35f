"""What a network costs: parameters, operations and milliseconds."""

import copy
from functools import partial
from operator import truediv
from statistics import median
from timeit import repeat

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(model):
    """Number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops(model, image_size=None):
    """Floating-point operations for one image, two per multiply-add: linear layers, convolutions
    and attention's products. image_size: pixels or (height, width); default the model's own.
    """
    size = timm.layers.to_2tuple(image_size or model.patch_embed.img_size)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        hollow = {id(p): nn.Parameter(torch.empty(p.shape)) for p in model.parameters()}
        for buffer in model.buffers():
            kind = None if buffer.is_floating_point() else buffer.dtype  # indices stay whole
            hollow[id(buffer)] = torch.empty(buffer.shape, dtype=kind)
        copy.deepcopy(model, hollow).eval()(torch.empty(1, model.in_chans, *size))
    return counter.get_total_flops()


@torch.inference_mode()
def latency(models, inputs, rounds=20):
    """Milliseconds a call, taken in turns: what slows the machine slows all models alike.

    models: name -> model, the reference first; put in evaluation mode. inputs: (n, c, h, w). A
    round times the third of three calls of each; every second goes backwards. Returns {name:
    {"ms": median, "ratio": median of time / the reference's in the same round}}.
    """
    times = {name: [] for name in models}
    for turn in range(rounds):
        for name in list(models)[:: -1 if turn % 2 else 1]:
            call = partial(_finish, models[name].eval(), inputs)
            times[name].append(1000 * repeat(call, number=1, repeat=3)[-1])
    first = next(iter(times.values()))
    return {n: {"ms": median(t), "ratio": median(map(truediv, t, first))} for n, t in times.items()}


def _finish(model, inputs):
    model(inputs)
    if inputs.device.type != "cpu":  # accelerators return at once
        torch.accelerator.synchronize(inputs.device)
