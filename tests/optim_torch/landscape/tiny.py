"""Landscapes of the smallest size, in this process."""

import dataclasses

import torch

from optim_torch.landscape import __main__ as landscape

torch.set_num_threads(1)


TINY = dataclasses.replace(
    landscape.PRESETS["digits"],
    scale=0.25,
    batch_size=16,
    n_items=64,
    steps=6,
    probe_every=2,
    rates=(0.05, 0.1),
    device="cpu",
)
