"""One convolutional network, written as a list of layers, for studies of its parts.

    ConvNet(("c64", "c128", "p", "r", "c256", "p", "g", "f128"), shape=(32, 32, 3), classes=10)

c64: 3x3 convolution with 64 filters, BatchNorm, activation. r: residual block of two such
convolutions that keep the width (He et al. 2016). p: 2x2 max pooling. g: mean over all positions.
f128: fully connected layer with 128 neurons, activation. The layer that makes logits comes by
itself, and so does flattening. Convolutions stand before "g" and the fully connected layers.
"""

import re

from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
KINDS = "c64 (convolution), r (residual block), p (pooling), g (global mean), f128 (connected)"


class ConvNet(nn.Module):
    """The network of `layers`, named as above.

    shape: (height, width, channels) of the images. scale: multiplies every width.
    activation: a name in ACTIVATIONS. norm: BatchNorm after each convolution. residual: False
    leaves out the shortcuts and keeps the convolutions. dropout: share of the inputs of each fully
    connected layer that is dropped, the last included.
    ValueError for unknown layers or activations, and for layers that cannot follow each other.
    """

    def __init__(
        self,
        layers,
        shape=(32, 32, 3),
        classes=10,
        *,
        scale=1.0,
        activation="relu",
        norm=True,
        residual=True,
        dropout=0.0,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
        height, width, channels = shape
        act, features, head, inputs = ACTIVATIONS[activation], [], [], None
        for kind, size in map(_parsed, layers):
            if inputs is not None and kind in "crpg":
                raise ValueError(f"layer {kind!r} cannot follow 'g' or a fully connected layer")
            size = max(1, round(scale * size))
            if kind == "c":
                features.append(_convolution(channels, size, act, norm))
                channels = size
            elif kind == "r":
                features.append(Block(channels, act, norm, residual))
            elif kind == "p":
                if min(height, width) < 2:
                    raise ValueError("layer 'p' has nothing left to pool: the image is 1 pixel")
                features.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            elif kind == "g":
                head += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
                inputs = channels
            else:
                if inputs is None:
                    head.append(nn.Flatten())
                    inputs = channels * height * width
                head += [*_dropout(dropout), nn.Linear(inputs, size), act()]
                inputs = size
        if not any(isinstance(module, nn.Conv2d) for part in features for module in part.modules()):
            raise ValueError("the network has no convolution; give a layer such as c64")
        if inputs is None:
            head.append(nn.Flatten())
            inputs = channels * height * width
        self.features = nn.Sequential(*features)
        self.head = nn.Sequential(*head, *_dropout(dropout), nn.Linear(inputs, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images):
        """images (n, channels, height, width) -> logits (n, classes)."""
        return self.head(self.features(images))


class Block(nn.Module):
    """Two convolutions, added to what went in if `residual`."""

    def __init__(self, channels, act, norm, residual):
        super().__init__()
        self.first = _convolution(channels, channels, act, norm)
        self.second = _convolution(channels, channels, act, norm)
        self.residual = residual

    def forward(self, x):
        y = self.second(self.first(x))
        return x + y if self.residual else y


def _parsed(layer):
    """ "c64" -> ("c", 64), "p" -> ("p", 0)."""
    match = re.fullmatch(r"([cf])([1-9]\d{0,4})|([rpg])", layer)
    if match is None:
        raise ValueError(f"unknown layer {layer!r}; layers: {KINDS}")
    kind, size, alone = match.groups()
    return (alone, 0) if alone else (kind, int(size))


def _convolution(inputs, outputs, act, norm):
    modules = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)]
    modules += [nn.BatchNorm2d(outputs)] if norm else []
    return nn.Sequential(*modules, act())


def _dropout(share):
    return [nn.Dropout(share)] if share else []
