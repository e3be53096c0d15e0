"""CIFAR pre-activation ResNets (He et al., "Identity Mappings in Deep Residual Networks", 2016).

BatchNorm and ReLU stand before each convolution, and once more after the last block; nothing follows the addition.
Depth 6n + 2 with basic blocks (110); depth 9n + 2 with bottlenecks (164). Where the shape changes the shortcut is a 1×1
convolution of the block's *input*, without BatchNorm, as in the code base behind the Drop-Activation paper; the
original and pytorchcv feed it the activated input, with as many parameters. PreResNet-164 has 1,703,258 parameters for
10 classes and 163 ReLU calls.
"""

from collections import OrderedDict

from torch import Tensor, nn

from dropact.experiments.models._layers import Block, conv1x1, conv3x3, head, initialise, stages


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return conv1x1(in_channels, out_channels, stride)


class PreBasicBlock(nn.Module):
    """shortcut(x) + conv(relu(bn(conv(relu(bn(x))))))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(out_channels, out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv1(self.relu1(self.bn1(x)))
        return self.shortcut(x) + self.conv2(self.relu2(self.bn2(branch)))


class PreBottleneck(nn.Module):
    """shortcut(x) + branch(x), the branch three times BatchNorm, ReLU, convolution: 1×1, 3×3 (with the stride), 1×1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = conv1x1(in_channels, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv2 = conv3x3(width, width, stride)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU()
        self.conv3 = conv1x1(width, out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv1(self.relu1(self.bn1(x)))
        branch = self.conv2(self.relu2(self.bn2(branch)))
        return self.shortcut(x) + self.conv3(self.relu3(self.bn3(branch)))


def preresnet(
    *, block: Block, blocks: int, expansion: int = 1, num_classes: int, in_channels: int, image_size: int
) -> nn.Module:
    """The network: three stages of `blocks` blocks, whose outputs are `expansion` times 16, 32 and 64 wide."""
    outputs = [width * expansion for width in (16, 32, 64)]
    return initialise(
        nn.Sequential(
            OrderedDict(
                conv=conv3x3(in_channels, 16),
                **stages(block, blocks, 16, outputs),
                bn=nn.BatchNorm2d(outputs[-1]),
                relu=nn.ReLU(),
                **head(outputs[-1], num_classes),
            )
        )
    )
