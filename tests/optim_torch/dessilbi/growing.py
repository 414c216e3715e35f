"""Small networks that grow."""

import torch
import torch.nn.functional as F
from torch.optim import SGD, Adam

from optim_torch import DessiLBI
from optim_torch.models import VGG, LeNet

WIDTHS = {"lenet": [2, 3, 4, 5], "vgg": [3, 2, 4, 3, 2, 3, 4, 3]}
LAYERS = {
    "lenet": ["conv1", "conv2", "conv3", "fc1"],
    "vgg": [f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 22, 25)],
}
# Thresholds low enough for Γ to hold some groups, and not all, after three steps; and an epsilon
# large enough for Adam not to follow gradients that are rounding alone (biases before a norm).
PATH = {"nu": 10, "lr_gamma": 1.0, "threshold": 0.1}
ADAM = {"lr": 0.01, "eps": 1e-5}
OPTIMIZERS = {
    "sgd": lambda params: SGD(params, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda params: Adam(params, amsgrad=True, **ADAM),
    "dessilbi": lambda params: DessiLBI(params, lr=0.05, momentum=0.9, kappa=2.0, **PATH),
    "dessilbi-adam": lambda params: DessiLBI(
        params, base=Adam, gamma_adaptive=True, **ADAM, **{**PATH, "lr_gamma": 0.03}
    ),
}


def network(name, widths=None):
    torch.manual_seed(0)
    widths = WIDTHS[name] if widths is None else widths
    model = LeNet((8, 8, 1), 10, widths) if name == "lenet" else VGG(11, widths=widths)
    return model.double()


def batch(model, number=0):
    generator = torch.Generator().manual_seed(number)
    shape = (6, 1, 8, 8) if isinstance(model, LeNet) else (4, 3, 32, 32)
    images = torch.randn(shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(10, shape[:1], generator=generator)


def backward(model, number):
    images, labels = batch(model, number)
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()


def trained(name, kind, steps=3, widths=None):
    """A network and its optimizer after a few steps; the same ones at every call."""
    model = network(name, widths)
    optimizer = OPTIMIZERS[kind](model.named_parameters())
    for step in range(steps):
        backward(model, step)
        optimizer.step()
    return model, optimizer


def width_of(model, layer):
    return len(model.get_submodule(layer).weight)


def corner(tensor, old):
    return tensor[tuple(slice(size) for size in old.shape)]


def rest(tensor, old):
    outside = torch.ones_like(tensor, dtype=torch.bool)
    corner(outside, old).fill_(False)
    return tensor[outside]


@torch.no_grad()
def assert_same_output(model, other, images, tolerance=1e-12):
    expected, found = model(images), other(images)
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()
