"""ResNet-18 for CIFAR, as in the code of the Cutout paper (and in kuangliu/pytorch-cifar, where that took it from).

The ImageNet network with a 3×3 convolution of stride 1 in place of the 7×7 and the max-pool: four stages of two basic
blocks with 64, 128, 256 and 512 channels; 11,173,962 parameters for 10 classes and 17 ReLU calls. Weights as torch
initialises them.
"""

from collections import OrderedDict

from torch import nn

from dropact.experiments.models._layers import conv3x3, head, stages
from dropact.experiments.models.resnet import BasicBlock


def resnet18(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """The network; global pooling makes it indifferent to `image_size`."""
    return nn.Sequential(
        OrderedDict(
            conv=conv3x3(in_channels, 64),
            bn=nn.BatchNorm2d(64),
            relu=nn.ReLU(),
            **stages(BasicBlock, 2, 64, (64, 128, 256, 512)),
            **head(512, num_classes),
        )
    )
