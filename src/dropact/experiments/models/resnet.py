"""CIFAR ResNets of basic blocks (He et al., "Deep Residual Learning for Image Recognition", 2016, Section 4.2).

Depth 6n + 2: a 3×3 convolution, three stages of n basic blocks with 16, 32 and 64 channels, global average pooling
and one fully connected layer. Where the shape changes the shortcut is a 1×1 convolution with BatchNorm, as in the code
base behind the Drop-Activation paper, rather than the parameter-free shortcut of the original: ResNet-110 has 1,730,714
parameters for 10 classes and 109 ReLU calls.
"""

from collections import OrderedDict

from torch import Tensor, nn


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x)))))), each ReLU a module of its own."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.shortcut(x) + branch)


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def resnet(*, depth: int, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """The network of 6n + 2 = `depth` layers; global pooling makes it indifferent to `image_size`."""
    blocks, remainder = divmod(depth - 2, 6)
    if remainder or blocks < 1:
        raise ValueError(f"depth: got {depth}, accepted: 6n + 2 for a whole number n of at least 1")
    network = nn.Sequential(
        OrderedDict(
            conv=_conv3x3(in_channels, 16),
            bn=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            stage1=_stage(16, 16, blocks, 1),
            stage2=_stage(16, 32, blocks, 2),
            stage3=_stage(32, 64, blocks, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(64, num_classes),
        )
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
