"""Networks for MNIST, CIFAR-10 and the embedded digits, by name."""

from optim_torch.models.lenet import WIDTHS as LENET
from optim_torch.models.lenet import LeNet
from optim_torch.models.resnet import ResNet
from optim_torch.models.vgg import VGG


def _resnet(depth, shape, classes, widths):
    if widths is None:
        return ResNet(depth, shape, classes)
    if len(widths) != 1:
        raise ValueError(f"a ResNet has one width, that of its first stage, got {len(widths)}")
    return ResNet(depth, shape, classes, widths[0])


MODELS = {  # name: (image shape, classes, widths or None) -> network
    "lenet": lambda shape, classes, widths=None: LeNet(shape, classes, widths or LENET),
    "vgg16": lambda shape, classes, widths=None: VGG(16, shape, classes, widths),
    "vgg19": lambda shape, classes, widths=None: VGG(19, shape, classes, widths),
    "resnet20": lambda shape, classes, widths=None: _resnet(20, shape, classes, widths),
    "resnet56": lambda shape, classes, widths=None: _resnet(56, shape, classes, widths),
}
