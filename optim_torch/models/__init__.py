"""Networks for MNIST, CIFAR-10 and the embedded digits, by name."""

from optim_torch.models.lenet import WIDTHS as LENET
from optim_torch.models.lenet import LeNet
from optim_torch.models.resnet import ResNet
from optim_torch.models.vgg import VGG

MODELS = {  # name: (image shape, classes, widths or None) -> network
    "lenet": lambda shape, classes, widths=None: LeNet(shape, classes, widths or LENET),
    "vgg16": lambda shape, classes, widths=None: VGG(16, shape, classes, widths),
    "vgg19": lambda shape, classes, widths=None: VGG(19, shape, classes, widths),
    "resnet20": lambda shape, classes, widths=None: ResNet(20, shape, classes, *(widths or ())),
    "resnet56": lambda shape, classes, widths=None: ResNet(56, shape, classes, *(widths or ())),
}
