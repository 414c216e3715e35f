"""A small convolutional network, trained in a minute or two on a CPU core, for its features.

Three 3x3 convolutions (24, 48, 96 filters, BatchNorm, ReLU, pooling after each) and 128 neurons,
whose activations are the features. AdamW with a rate that warms up and goes to zero, batches of
128, no augmentation, float32.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from groundfloor import seeds
from groundfloor.pytorch import batches
from optim_torch.models.conv_net import ConvNet

LAYERS = ("c24", "p", "c48", "p", "c96", "p", "f128")
BATCH, RATE = 128, 3e-3


class SmallCnn:
    """The network after training; images uint8 (n, h, w, c) in, NumPy arrays out."""

    def __init__(self, images, codes, epochs, seed):
        """Train on images with codes (n,) of classes 0, 1, ...; seed: of weights and batches."""
        torch.manual_seed(seeds.fold(seed, "weights"))
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        train = batches.Images(pixels, torch.from_numpy(np.int64(codes)))
        self.normalise = batches.normalisation(train, standardise=True)
        net = ConvNet(LAYERS, images.shape[1:], int(codes.max()) + 1)
        self.net = net.to(memory_format=torch.channels_last)
        steps = epochs * max(1, len(train) // BATCH)
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
        schedule = OneCycleLR(optimizer, RATE, total_steps=steps)
        for step in range(steps):
            pixels, labels = batches.batch(train, BATCH, seed, step)
            loss = F.cross_entropy(self.net(self._inputs(pixels)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self.net.eval()

    def _inputs(self, pixels):
        return self.normalise(pixels).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def features(self, images):
        """Activations (n, 128) float32 of the last hidden layer."""
        parts = []
        for part in np.array_split(images, math.ceil(len(images) / 500)):
            pixels = torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2)
            parts.append(self.net.head[:-1](self.net.features(self._inputs(pixels))).numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def log_probabilities(self, features):
        """(n, classes) of features."""
        return self.net.head[-1](torch.from_numpy(features)).log_softmax(1).numpy()
