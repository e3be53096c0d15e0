"""What the families share: convolutions without bias, the stages, the head, and He's initialisation."""

from collections.abc import Callable, Sequence

from torch import nn

Block = Callable[[int, int, int], nn.Module]  # of input channels, output channels and stride


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def stages(block: Block, blocks: int, channels: int, outputs: Sequence[int]) -> dict[str, nn.Module]:
    """A stage of `blocks` blocks for each number of output channels; the first takes `channels`, each next one has half
    the resolution.
    """
    made: dict[str, nn.Module] = {}
    for stage, output in enumerate(outputs, start=1):
        made[f"stage{stage}"] = row = nn.Sequential()
        for index in range(blocks):
            row.append(block(channels, output, 2 if stage > 1 and index == 0 else 1))
            channels = output
    return made


def head(channels: int, num_classes: int) -> dict[str, nn.Module]:
    """Global average pooling, which makes a network indifferent to the size of the images, and one linear layer."""
    return {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": nn.Linear(channels, num_classes)}


def initialise(network: nn.Module) -> nn.Module:
    """Weights of the convolutions ~ N(0, 2 / (kernel² · output channels)), as in every code base of these families."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
