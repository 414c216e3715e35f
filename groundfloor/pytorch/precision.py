"""bfloat16 or float32 in the forward pass: what is faster on this device, by measurement.

bfloat16 is twice as fast where the hardware multiplies in it (GPUs, AMX, avx512_bf16) and a hundred
times slower where it is emulated. Weights, gradients and optimizers stay float32.
"""

import time
from typing import Literal

import torch
from torch.nn import functional as F

from groundfloor.runs import read_dict, write_json

Precision = Literal["auto", "float32", "bfloat16"]
GAIN = 1.15  # how many times as fast bfloat16 has to be
STEPS = 3  # timed with each, after one that warms up
FEW = 16  # images that show whether bfloat16 is emulated
EMULATED = 3.0  # times as slow, with these few


def autocast(device, precision):
    """A context in which torch computes in this precision; auto counts as float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def chosen(precision, model, inputs, labels, path):
    """ "float32" or "bfloat16"; auto: bfloat16 where a step on this device is 1.15 times as fast.

    model, inputs, labels: the network, which is changed, and the batch of a training step; its
    forward and backward pass are timed.
    path: a JSON file that keeps the choice with the seconds of a step, or has it from before: a
    resumed run goes on as it began.
    """
    if precision != "auto":
        return precision
    if path.exists():
        return kept(path)
    few = inputs[:FEW], labels[:FEW]
    seconds = {name: _seconds(model, *few, name) for name in ("float32", "bfloat16")}
    if seconds["bfloat16"] < EMULATED * seconds["float32"]:
        seconds = {name: _seconds(model, inputs, labels, name) for name in seconds}
    faster = GAIN * seconds["bfloat16"] < seconds["float32"]
    choice = "bfloat16" if faster else "float32"
    write_json(path, {"precision": choice, "seconds": seconds})
    times = ", ".join(f"{name} {1000 * value:.1f}" for name, value in seconds.items())
    print(f"precision: {choice} (milliseconds of a step: {times})", flush=True)
    return choice


def timed(path):
    """Seconds of a step in each precision, which `chosen` kept in `path`; None where it timed
    nothing, as one was asked for."""
    return read_dict(path, "choice of precision").get("seconds") if path.exists() else None


def kept(path):
    """The choice in such a file; UserError if it is damaged."""
    return read_dict(path, "choice of precision", "precision")["precision"]


def _seconds(model, inputs, labels, precision):
    """Of a step's forward and backward pass."""
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
