"""Sizes of the networks as published, and what they refuse."""

import pytest
import torch

from optim_torch.models import MODELS, LeNet

SIZES = {  # counted from the papers' tables
    "lenet": 61_706,
    "vgg16": 14_728_266,
    "vgg19": 20_040_522,
    "resnet20": 269_722,
    "resnet56": 853_018,
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_and_outputs(name):
    shape = (28, 28, 1) if name == "lenet" else (32, 32, 3)
    model = MODELS[name](shape, 10)
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]
    assert model(torch.zeros(2, shape[2], *shape[:2])).shape == (2, 10)


def test_vgg16_by_hand():
    """Convolutions with biases, two numbers of BatchNorm a filter, one linear layer."""
    widths = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    total, channels = 0, 3
    for width in widths:
        total += 9 * channels * width + 3 * width
        channels = width
    assert total + 512 * 10 + 10 == SIZES["vgg16"]


@pytest.mark.parametrize("side", [8, 16, 20, 28, 32])
def test_lenets_third_convolution_sees_everything(side):
    model = LeNet((side, side, 1))
    assert model.features(torch.zeros(1, 1, side, side)).shape == (1, 120, 1, 1)


@pytest.mark.parametrize(
    ("name", "shape", "widths", "words"),
    [
        ("lenet", (28, 32, 1), None, "square images"),
        ("lenet", (64, 64, 3), None, "square images"),
        ("lenet", (28, 28, 1), (6, 16), "4 widths"),
        ("vgg16", (28, 28, 1), None, "32x32"),
        ("vgg16", (32, 32, 3), (4, 4), "13 convolutions"),
    ],
)
def test_impossible_networks_are_refused(name, shape, widths, words):
    with pytest.raises(ValueError, match=words):
        MODELS[name](shape, 10, widths)
