"""VGG (Simonyan and Zisserman 2015) with batch normalisation for 32x32 images."""

from torch import nn

STAGES = {  # convolutions in each of the five stages
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """3x3 convolutions with batch normalisation, five poolings, one linear layer.

    depth: 11, 13, 16 or 19. 14,728,266 parameters at 16, 20,040,522 at 19.
    widths: filters of each convolution in order; none takes VGG's own.
    """

    def __init__(self, depth=16, shape=(32, 32, 3), classes=10, widths=None):
        super().__init__()
        if shape[:2] != (32, 32):
            raise ValueError(f"VGG takes images of 32x32, not {shape[0]}x{shape[1]}")
        own = [w for w, count in zip(WIDTHS, STAGES[depth], strict=True) for _ in range(count)]
        widths = list(own if widths is None else widths)
        if len(widths) != len(own):
            raise ValueError(f"VGG-{depth} has {len(own)} convolutions, got {len(widths)} widths")
        modules, channels, remaining = [], shape[2], iter(widths)
        for count in STAGES[depth]:
            for _ in range(count):
                width = next(remaining)
                modules += [
                    nn.Conv2d(channels, width, 3, padding=1),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                channels = width
            modules.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*modules)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images):
        """images (n, channels, 32, 32) -> logits (n, classes)."""
        return self.classifier(self.features(images).flatten(1))
