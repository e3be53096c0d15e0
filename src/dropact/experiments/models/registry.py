"""The one list of network names."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from dropact.experiments.errors import ConfigError
from dropact.experiments.models.resnet import resnet
from dropact.experiments.models.simple import simple

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "simple": partial(simple, widths=(32, 64, 128), hidden=256),
    "simple-small": partial(simple, widths=(16, 32, 64), hidden=64),
    "resnet-20": partial(resnet, depth=20),
    "resnet-56": partial(resnet, depth=56),
    "resnet-110": partial(resnet, depth=110),
}


def build_network(name: str, num_classes: int = 10, *, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """A freshly initialised network; the weights follow torch's default generator.

    >>> import torch
    >>> network = build_network("resnet-20", num_classes=100)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 100])

    Args:
        name: one of `NETWORKS`.
        num_classes: width of the output, at least 1.
        in_channels: channels of the images, at least 1.
        image_size: height and width of the images in pixels, at least 8.

    Returns:
        A module from images (N, in_channels, image_size, image_size) to logits (N, num_classes). Every ReLU call
        site is an `nn.ReLU` module of its own.

    Raises:
        ConfigError: an unknown name, or a size below the minimum.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network: got {name!r}, accepted: {', '.join(NETWORKS)}")
    for field, value, least in (
        ("num_classes", num_classes, 1),
        ("in_channels", in_channels, 1),
        ("image_size", image_size, 8),
    ):
        if value < least:
            raise ConfigError(f"{field}: got {value!r}, accepted: a whole number of at least {least}")
    return NETWORKS[name](num_classes=num_classes, in_channels=in_channels, image_size=image_size)
