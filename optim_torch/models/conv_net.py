"""One convolutional network, written as a list of layers, for studies of its parts.

    ConvNet(("c64", "c128", "p", "r", "c256", "p", "g", "f128"), shape=(32, 32, 3), classes=10)

c64: 3x3 convolution with 64 filters, BatchNorm, activation. d64: the same, with 2x2 max pooling
right after the convolution, where it saves most. r: residual block of two such convolutions that
keep the width (He et al. 2016). p: 2x2 max pooling. g, m: mean and maximum over all positions.
f128: fully connected layer with 128 neurons, activation. The layer that makes logits comes by
itself, and so does flattening. Convolutions stand before "g", "m" and the connected layers.

w, as the first layer: a frozen 2x2 convolution that whitens patches of training images, activation
(Page 2018; Jordan 2024, airbench). A network that begins so begins as the identity where it can:
its convolutions pass on the channels that come in.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
KINDS = (
    "w (whitening), c64 (convolution), d64 (convolution and pooling), r (residual block), "
    "p (pooling), g (global mean), m (global maximum), f128 (connected)"
)


class ConvNet(nn.Module):
    """The network of `layers`, named as above.

    shape: (height, width, channels) of the images. scale: multiplies every width.
    activation: a name in ACTIVATIONS. norm: BatchNorm after each convolution. residual: False
    leaves out the shortcuts and keeps the convolutions. dropout: share of the inputs of each fully
    connected layer that is dropped, the last included. logit_scale: multiplies the logits.
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
        logit_scale=1.0,
    ):
        super().__init__()
        self.logit_scale = logit_scale
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
        height, width, channels = shape
        act, features, head, inputs = ACTIVATIONS[activation], [], [], None
        for kind, size in map(_parsed, layers):
            if inputs is not None and kind in "wcdrpgm":
                raise ValueError(f"layer {kind!r} cannot follow 'g', 'm' or a connected layer")
            size = max(1, round(scale * size))
            if kind in "dp" and min(height, width) < 2:
                raise ValueError(f"layer {kind!r} has nothing left to pool: 1 pixel")
            if kind == "w":
                if features or min(height, width) < 2:
                    raise ValueError("layer 'w' can only be the first, on images of 2x2 and more")
                whitening = Whitening(channels)
                features.append(nn.Sequential(whitening, act()))
                height, width, channels = height - 1, width - 1, whitening.out_channels
            elif kind in "cd":
                features.append(_convolution(channels, size, act, norm, pooled=kind == "d"))
                channels = size
            elif kind == "r":
                features.append(Block(channels, act, norm, residual))
            elif kind == "p":
                features.append(nn.MaxPool2d(2))
            elif kind in "gm":
                pool = nn.AdaptiveAvgPool2d if kind == "g" else nn.AdaptiveMaxPool2d
                head += [pool(1), nn.Flatten()]
                inputs = channels
            else:
                if inputs is None:
                    head.append(nn.Flatten())
                    inputs = channels * height * width
                head += [*_dropout(dropout), nn.Linear(inputs, size), act()]
                inputs = size
            if kind in "dp":
                height, width = height // 2, width // 2
        if not any(isinstance(module, nn.Conv2d) for part in features for module in part.modules()):
            raise ValueError("the network has no convolution; give a layer such as c64")
        if inputs is None:
            head.append(nn.Flatten())
            inputs = channels * height * width
        self.features = nn.Sequential(*features)
        self.head = nn.Sequential(*head, *_dropout(dropout), nn.Linear(inputs, classes))
        whitened = isinstance(next(self.modules_of(nn.Conv2d)), Whitening)
        for module in self.modules_of(nn.Conv2d):
            if not whitened:
                nn.init.kaiming_normal_(module.weight)
            elif not isinstance(module, Whitening):
                nn.init.dirac_(module.weight.data[: module.in_channels])

    def modules_of(self, kind):
        """The modules of a class, in their order."""
        return (module for module in self.modules() if isinstance(module, kind))

    def whiten(self, images):
        """Set the whitening layer, if there is one, by images (n, channels, height, width)."""
        for layer in self.modules_of(Whitening):
            layer.fit(images)

    def forward(self, images):
        """images (n, channels, height, width) -> logits (n, classes)."""
        return self.logit_scale * self.head(self.features(images))


class Whitening(nn.Conv2d):
    """A 2x2 convolution whose outputs are the whitened patches and their negatives; frozen, but for
    its bias. Until `fit` its weights are zero."""

    def __init__(self, channels):
        super().__init__(channels, 8 * channels, 2)
        self.weight.requires_grad_(False).zero_()
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def fit(self, images, least=5e-4):
        """Eigenvectors of the patches' covariance over the roots of eigenvalue + `least`.

        images: (n, channels, height, width).
        """
        count = self.weight[0].numel()
        patches = F.unfold(images, 2).transpose(1, 2).reshape(-1, count).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + least).sqrt()).T.reshape(count, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


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
    match = re.fullmatch(r"([cdf])([1-9]\d{0,4})|([wrpgm])", layer)
    if match is None:
        raise ValueError(f"unknown layer {layer!r}; layers: {KINDS}")
    kind, size, alone = match.groups()
    return (alone, 0) if alone else (kind, int(size))


def _convolution(inputs, outputs, act, norm, pooled=False):
    modules = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)]
    modules += [nn.MaxPool2d(2)] if pooled else []
    modules += [nn.BatchNorm2d(outputs)] if norm else []
    return nn.Sequential(*modules, act())


def _dropout(share):
    return [nn.Dropout(share)] if share else []
