"""ResNet for small images (He et al. 2016, section 4.2), shortcuts without parameters."""

import torch.nn.functional as F
from torch import nn


class ResNet(nn.Module):
    """Three stages of n blocks with 16, 32 and 64 filters.

    depth: 6n + 2. 269,722 parameters at 20, 853,018 at 56 (shortcuts pad with zeros).
    """

    def __init__(self, depth=20, shape=(32, 32, 3), classes=10, width=16):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"ResNet's depth must be 6n + 2, got {depth}")
        blocks = (depth - 2) // 6
        self.conv = nn.Conv2d(shape[2], width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        stages, channels = [], width
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                stages.append(Block(channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images):
        """images (n, channels, height, width) -> logits (n, classes)."""
        x = self.blocks(F.relu(self.norm(self.conv(images))))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which skips pixels and pads channels if it must."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, width - channels

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.extra:
            before = self.extra // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.extra - before))
        return F.relu(y + shortcut)
