"""Averages that make a trained network better: of its weights in time, of its answers to views."""

import torch
from torch.nn import functional as F

EVERY = 5  # steps between two updates
SLOWEST = 0.95**EVERY  # share of the old average that an update at the end keeps


class Lookahead:
    """A slow copy of the weights that the weights return to (Zhang et al. 2019; Jordan 2024).

    Every 5 steps the copy moves towards the weights, and the weights become the copy. The share
    that it keeps rises with the cube of time; after the last step the weights are the copy.
    """

    def __init__(self, model):
        self.slow = {
            name: value.clone()
            for name, value in model.state_dict().items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, model, step, steps):
        """To be called after each step, numbered from 0; does something after every fifth and the
        last."""
        due = (step + 1) % EVERY == 0
        if not due and step + 1 < steps:
            return
        kept = SLOWEST * ((step + 1) / steps) ** 3 if due else 1.0
        fast = model.state_dict()
        for name, slow in self.slow.items():
            slow.lerp_(fast[name], 1 - kept)
            fast[name].copy_(slow)


def answering(config, model):
    """The network whose answers count: `Views` of it if a study's settings say so."""
    return Views(model) if config.views else model


class Views(torch.nn.Module):
    """The mean of a network's logits over six views of each image: mirrored or not, each as it is
    (half of the weight) and shifted by a pixel up left and down right (Jordan 2024)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        """inputs (n, c, h, w) -> logits (n, classes)."""
        height, width = inputs.shape[2:]
        padded = F.pad(inputs, (1,) * 4, mode="reflect")
        shifted = [padded[:, :, k : k + height, k : k + width] for k in (0, 2)]
        return 0.5 * self._both(inputs) + 0.25 * sum(map(self._both, shifted))

    def _both(self, inputs):
        return 0.5 * (self.model(inputs) + self.model(inputs.flip(3)))
