"""Wide ResNets (Zagoruyko & Komodakis, "Wide Residual Networks", 2016).

Pre-activation basic blocks, `widening` times as wide as those of `preresnet`. Where the shape changes, BatchNorm and
ReLU come before the shortcut too. Dropout, if any, stands before the second convolution of each block.

The name WRN-d-k counts d = 6n + 4 layers, with the 1×1 shortcuts among them. "20-10" in the Drop-Activation paper is of
no such form (its numbers are quoted from papers that trained WRN-28-10); read as 6n + 2, without the shortcuts, it has
three blocks in a stage, and is WRN-22-10 in the usual count.
"""

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn

from dropact.experiments.models._layers import conv1x1, conv3x3, head, initialise, stages


class WideBlock(nn.Module):
    """x + branch(x), or with a change of shape conv1x1(relu(bn(x))) + branch(x), whose first ReLU is the same call."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = conv3x3(out_channels, out_channels)
        self.shortcut = None if in_channels == out_channels else conv1x1(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.bn1(x))
        branch = self.relu2(self.bn2(self.conv1(activated)))
        branch = self.conv2(self.dropout(branch))
        return branch + (x if self.shortcut is None else self.shortcut(activated))


def wide_resnet(
    *, blocks: int, widening: int, num_classes: int, in_channels: int, image_size: int, dropout: float = 0.0
) -> nn.Module:
    """The network with `blocks` blocks in each of its three stages."""

    outputs = [width * widening for width in (16, 32, 64)]
    network = nn.Sequential(
        OrderedDict(
            conv=conv3x3(in_channels, 16),
            **stages(partial(WideBlock, dropout=dropout), blocks, 16, outputs),
            bn=nn.BatchNorm2d(outputs[-1]),
            relu=nn.ReLU(),
            **head(outputs[-1], num_classes),
        )
    )
    nn.init.zeros_(network.get_parameter("classifier.bias"))
    return initialise(network)
