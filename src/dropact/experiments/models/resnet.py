"""CIFAR ResNets (He et al., "Deep Residual Learning for Image Recognition", 2016, Section 4.2).

A 3×3 convolution with 16 channels, three stages of n blocks with 16, 32 and 64 channels, global average pooling and one
fully connected layer. Depth 6n + 2 with basic blocks (20, 32, 56, 110); depth 9n + 2 with bottlenecks, whose output has
four times the channels (164, as in He et al., "Identity Mappings in Deep Residual Networks", 2016). Where the shape
changes the shortcut is a 1×1 convolution with BatchNorm, as in the code base behind the Drop-Activation paper, rather
than the parameter-free shortcut of the original: ResNet-110 has 1,730,714 parameters for 10 classes.
"""

from collections import OrderedDict

from torch import Tensor, nn

from dropact.experiments.models._layers import Block, conv1x1, conv3x3, head, initialise, stages


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x)))))), each ReLU a module of its own."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.shortcut(x) + branch)


class Bottleneck(nn.Module):
    """relu(shortcut(x) + branch(x)), the branch convolutions 1×1, 3×3 (with the stride), 1×1, BatchNorm after each.

    Args:
        ratio: width of the 3×3 convolution to that of the output.
        groups: of the 3×3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, ratio: float = 1 / 4, groups: int = 1) -> None:
        super().__init__()
        width = int(ratio * out_channels)
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(width, width, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu3 = nn.ReLU()
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu1(self.bn1(self.conv1(x)))
        branch = self.relu2(self.bn2(self.conv2(branch)))
        return self.relu3(self.shortcut(x) + self.bn3(self.conv3(branch)))


def resnet(
    *, block: Block, blocks: int, expansion: int = 1, num_classes: int, in_channels: int, image_size: int
) -> nn.Module:
    """The network: three stages of `blocks` blocks, whose outputs are `expansion` times 16, 32 and 64 wide."""
    outputs = [width * expansion for width in (16, 32, 64)]
    return initialise(
        nn.Sequential(
            OrderedDict(
                conv=conv3x3(in_channels, 16),
                bn=nn.BatchNorm2d(16),
                relu=nn.ReLU(),
                **stages(block, blocks, 16, outputs),
                **head(outputs[-1], num_classes),
            )
        )
    )
