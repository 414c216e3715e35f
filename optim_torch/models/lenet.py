"""LeNet-5 (LeCun et al. 1998) with ReLU and max pooling, as DessiLBI's authors train it."""

from torch import nn

WIDTHS = (6, 16, 120, 84)


class LeNet(nn.Module):
    """Three convolutions and two linear layers: 6-16-120-84-10, 61,706 parameters on 28x28x1.

    shape: (height, width, channels) of the images. Sides are brought to 32: repeated pixels if 32
    is a multiple, a border of zeros otherwise.
    widths: of the three convolutions and the first linear layer.
    """

    def __init__(self, shape=(28, 28, 1), classes=10, widths=WIDTHS):
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"LeNet has 4 widths, got {len(widths)}")
        first, second, third, hidden = widths
        height, width, channels = shape
        if height != width or not 8 <= height <= 32 or height % 2:
            raise ValueError(f"LeNet takes square images of 8 to 32 pixels, not {height}x{width}")
        enlarge = 32 // height if 32 % height == 0 else 1
        padding = (32 - enlarge * height) // 2
        self.enlarge = nn.Upsample(scale_factor=enlarge) if enlarge > 1 else nn.Identity()
        self.conv1 = nn.Conv2d(channels, first, 5, padding=padding)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.conv3 = nn.Conv2d(second, third, 5)
        self.fc1 = nn.Linear(third, hidden)
        self.fc2 = nn.Linear(hidden, classes)
        self.pool = nn.MaxPool2d(2)
        self.activation = nn.ReLU()

    def features(self, images):
        """The third convolution before its activation: (n, 120, 1, 1)."""
        # Pooling first gives the same numbers and leaves a quarter of them to the activation.
        x = self.activation(self.pool(self.conv1(self.enlarge(images))))
        x = self.activation(self.pool(self.conv2(x)))
        return self.conv3(x)

    def forward(self, images):
        """images (n, channels, height, width) -> logits (n, classes)."""
        x = self.activation(self.features(images)).flatten(1)
        return self.fc2(self.activation(self.fc1(x)))
