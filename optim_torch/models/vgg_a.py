"""The course's VGG-A networks, with the normalisers of Santurkar et al. 2018 (arXiv 1805.11604)."""

from math import inf

import torch
from torch import nn


class LpNorm2d(nn.Module):
    """Batch normalisation by an l_p average: mean |x| (p=1), root mean square (2), max |x| (inf).

    Per channel over batch and positions: the mean is subtracted, the rest divided by its average
    plus eps, then scaled and shifted by learned numbers. p=2 is BatchNorm2d, but for eps outside
    the root and running averages of the divisor itself, where BatchNorm2d keeps the unbiased
    variance. Santurkar et al. 2018, section 3.3; they average before subtracting the mean.
    ValueError for p below 1, and in training for one value per channel, as in BatchNorm2d.
    """

    def __init__(self, channels, p, eps=1e-5, momentum=0.1):
        super().__init__()
        if not p >= 1:
            raise ValueError(f"p must be at least 1, got {p}")
        self.p, self.eps, self.momentum = p, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_divisor", torch.ones(channels))

    def forward(self, images):
        """images (n, channels, height, width) -> the same shape and type."""
        # Channels last let (channels,) broadcast; autocast's short floats would blur the averages.
        x = images.movedim(1, -1).to(self.weight.dtype)
        mean, divisor = self.running_mean, self.running_divisor
        if self.training:
            count = x[..., 0].numel()
            if count == 1:
                raise ValueError("training needs more than one value per channel to normalise")
            mean = x.mean((0, 1, 2))
            norm = torch.linalg.vector_norm(x - mean, self.p, (0, 1, 2))
            divisor = norm / count ** (1 / self.p) + self.eps
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_divisor.lerp_(divisor, self.momentum)
        x = (x - mean) / divisor * self.weight + self.bias
        return x.to(images.dtype).movedim(-1, 1)


NORMS = {  # name: channels -> module
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),
    # 16 channels a group: 32 groups leave narrow layers one or two, too few at 1x1 positions.
    "group": lambda channels: nn.GroupNorm(1 if channels % 16 else channels // 16, channels),
    "l1": lambda channels: LpNorm2d(channels, 1),
    "l2": lambda channels: LpNorm2d(channels, 2),
    "linf": lambda channels: LpNorm2d(channels, inf),
}


class VGG_A(nn.Module):
    """VGG's A (Simonyan and Zisserman 2015) with 512-512-classes on top: 9,750,922 parameters.

    init_weights: Glorot's normal weights and zero biases; torch's own otherwise.
    side: of the square images; an "M" in layers pools only while the side is above 1.
    scale: multiplies every width, for small machines.
    norm: after each convolution, before its ReLU: None or a name in NORMS; others ValueError.
    """

    layers = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
    hidden, dropout = 512, 0

    def __init__(self, inp_ch=3, num_classes=10, init_weights=True, *, side=32, scale=1, norm=None):
        super().__init__()
        if norm is not None and norm not in NORMS:
            raise ValueError(f"norm must be None or one of {', '.join(NORMS)}, got {norm!r}")
        modules, channels = [], inp_ch
        for layer in self.layers:
            if layer != "M":
                inputs, channels = channels, max(1, round(scale * layer))
                modules += [nn.Conv2d(inputs, channels, 3, padding=1)]
                modules += [NORMS[norm](channels)] if norm else []
                modules += [nn.ReLU(inplace=True)]
            elif side > 1:
                modules += [nn.MaxPool2d(2)]
                side //= 2
        self.features = nn.Sequential(*modules)
        modules, hidden = [], max(1, round(scale * self.hidden))
        for inputs in (channels * side**2, hidden):
            modules += [nn.Dropout(self.dropout)] if self.dropout else []
            modules += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True)]
        self.classifier = nn.Sequential(*modules, nn.Linear(hidden, num_classes))
        for module in self.modules() if init_weights else ():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images):
        """images (n, inp_ch, side, side) -> logits (n, num_classes)."""
        return self.classifier(self.features(images).flatten(1))


class VGG_A_BatchNorm(VGG_A):
    """VGG_A with batch normalisation after the convolutions: 9,756,426 parameters."""

    def __init__(self, inp_ch=3, num_classes=10, init_weights=True, **extras):
        super().__init__(inp_ch, num_classes, init_weights, norm="batch", **extras)


class VGG_A_Light(VGG_A):
    """Two convolutions, then 128-128-classes: 285,162 parameters."""

    layers, hidden = (16, "M", 32, "M"), 128


class VGG_A_Dropout(VGG_A):
    """VGG_A with dropout before the two hidden linear layers."""

    dropout = 0.5


VGG_A_MODELS = {c.__name__: c for c in (VGG_A, VGG_A_BatchNorm, VGG_A_Light, VGG_A_Dropout)}
