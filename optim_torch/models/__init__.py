"""Networks for MNIST, CIFAR-10 and the embedded digits, by name."""

from optim_torch.models.lenet import LeNet
from optim_torch.models.resnet import ResNet
from optim_torch.models.vgg import VGG

MODELS = {  # name: (image shape, classes) -> network
    "lenet": lambda shape, classes: LeNet(shape, classes),
    "vgg16": lambda shape, classes: VGG(16, shape, classes),
    "vgg19": lambda shape, classes: VGG(19, shape, classes),
    "resnet20": lambda shape, classes: ResNet(20, shape, classes),
    "resnet56": lambda shape, classes: ResNet(56, shape, classes),
}
