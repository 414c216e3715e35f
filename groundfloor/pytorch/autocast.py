"""Forward passes in bfloat16; weights, gradients and optimizers stay float32."""

import time

import torch
from torch.nn import functional as F

from groundfloor.precision import KINDS

STEPS = 3  # timed in each precision, after one that warms up
FEW = 16  # images that show whether bfloat16 is emulated
EMULATED = 3.0  # times as slow, with these few


def autocast(device, precision):
    """A context in which torch computes in this precision; auto counts as float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def step_seconds(model, inputs, labels):
    """{"float32": seconds, "bfloat16": seconds} of the forward and backward pass of a training
    step; the model is changed. Where bfloat16 is emulated: of FEW images."""
    few = inputs[:FEW], labels[:FEW]
    seconds = {name: _seconds(model, *few, name) for name in KINDS}
    if seconds["bfloat16"] < EMULATED * seconds["float32"]:
        seconds = {name: _seconds(model, inputs, labels, name) for name in seconds}
    return seconds


def _seconds(model, inputs, labels, precision):
    for step in range(STEPS + 1):
        if step == 1:
            _wait(inputs.device)
            began = time.perf_counter()
        with autocast(inputs.device, precision):
            loss = F.cross_entropy(model(inputs).float(), labels)
        loss.backward()
    _wait(inputs.device)
    return (time.perf_counter() - began) / STEPS


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
