"""CIFAR ResNeXts (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", 2017, Section 5.3).

ResNeXt-29-8×64d: a 3×3 convolution with 64 channels, three stages of three blocks with 256, 512 and 1,024 channels,
whose 3×3 convolution has 8 groups of 64, 128 and 256 channels. Shortcuts as in `resnet`.
"""

from collections import OrderedDict
from functools import partial

from torch import nn

from dropact.experiments.models._layers import conv3x3, head, initialise, stages
from dropact.experiments.models.resnet import Bottleneck

OUTPUTS = (256, 512, 1024)


def resnext(
    *, blocks: int, groups: int, group_width: int, num_classes: int, in_channels: int, image_size: int
) -> nn.Module:
    """The network with `blocks` blocks in each of its three stages; groups of `group_width` channels in the first."""
    block = partial(Bottleneck, ratio=groups * group_width / OUTPUTS[0], groups=groups)
    network = initialise(
        nn.Sequential(
            OrderedDict(
                conv=conv3x3(in_channels, 64),
                bn=nn.BatchNorm2d(64),
                relu=nn.ReLU(),
                **stages(block, blocks, 64, OUTPUTS),
                **head(OUTPUTS[-1], num_classes),
            )
        )
    )
    # As in the code base behind the Drop-Activation paper.
    nn.init.kaiming_normal_(network.get_parameter("classifier.weight"))
    nn.init.zeros_(network.get_parameter("classifier.bias"))
    return network
