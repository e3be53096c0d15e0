"""The one list of network names."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from dropact.experiments.errors import ConfigError
from dropact.experiments.models.cnn import cnn
from dropact.experiments.models.densenet import densenet_bc
from dropact.experiments.models.external import PROVIDERS, external, is_external
from dropact.experiments.models.mlp import mlp
from dropact.experiments.models.preresnet import PreBasicBlock, PreBottleneck, preresnet
from dropact.experiments.models.resnet import BasicBlock, Bottleneck, resnet
from dropact.experiments.models.resnet18 import resnet18
from dropact.experiments.models.resnext import resnext
from dropact.experiments.models.simple import simple
from dropact.experiments.models.wide_resnet import wide_resnet

NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "simple": partial(simple, widths=(32, 64, 128), hidden=256),
    "simple-small": partial(simple, widths=(16, 32, 64), hidden=64),
    "simple-half": partial(simple, widths=(16, 32, 64), hidden=128),
    "simple-double": partial(simple, widths=(64, 128, 256), hidden=512),
    "simple-plain": partial(simple, widths=(32, 64, 128), hidden=256, batchnorm=False),
    "cnn": partial(cnn, batchnorm=False),
    "cnn-bn": partial(cnn, batchnorm=True),
    "mlp-1000-800-200": partial(mlp, widths=(1000, 800, 200)),
    "mlp-800-800": partial(mlp, widths=(800, 800)),
    "mlp-1024-1024-1024": partial(mlp, widths=(1024, 1024, 1024)),
    "mlp-tanh-256-256-256": partial(mlp, widths=(256, 256, 256), activation=nn.Tanh),
    "resnet-18": resnet18,
    "resnet-20": partial(resnet, block=BasicBlock, blocks=3),
    "resnet-32": partial(resnet, block=BasicBlock, blocks=5),
    "resnet-56": partial(resnet, block=BasicBlock, blocks=9),
    "resnet-110": partial(resnet, block=BasicBlock, blocks=18),
    "resnet-164": partial(resnet, block=Bottleneck, blocks=18, expansion=4),
    "preresnet-110": partial(preresnet, block=PreBasicBlock, blocks=18),
    "preresnet-164": partial(preresnet, block=PreBottleneck, blocks=18, expansion=4),
    "wrn-16-1": partial(wide_resnet, blocks=2, widening=1),
    "wrn-16-2": partial(wide_resnet, blocks=2, widening=2),
    "wrn-16-4": partial(wide_resnet, blocks=2, widening=4),
    "wrn-16-8": partial(wide_resnet, blocks=2, widening=8),
    "wrn-20-10": partial(wide_resnet, blocks=3, widening=10),
    "wrn-28-10": partial(wide_resnet, blocks=4, widening=10),
    "densenet-bc-100-12": partial(densenet_bc, layers=16, growth=12),
    "densenet-bc-190-40": partial(densenet_bc, layers=31, growth=40),
    "resnext-29-8x64d": partial(resnext, blocks=3, groups=8, group_width=64),
}
WITH_DROPOUT = tuple(name for name in NETWORKS if name.startswith(("wrn-", "densenet-")))


def activation_of(name: str) -> str:
    """What tables call the activation of a network.

    >>> activation_of("resnet-20"), activation_of("mlp-tanh-256-256-256")
    ('ReLU', 'tanh')
    """
    return "tanh" if name.startswith("mlp-tanh-") else "ReLU"


def check_network(name: str, dropout: float = 0.0) -> None:
    """Refuses a name that is neither in `NETWORKS` nor of the form "torchvision:NAME" or "timm:NAME", and a dropout
    rate that the network has no place for.

    >>> check_network("wrn-28-10", dropout=0.3)
    >>> check_network("resnet-20", dropout=0.3)
    Traceback (most recent call last):
        ...
    dropact.experiments.errors.ConfigError: dropout: got 0.3 for 'resnet-20', accepted: 0; above it only for wrn-16-1, \
wrn-16-2, wrn-16-4, wrn-16-8, wrn-20-10, wrn-28-10, densenet-bc-100-12, densenet-bc-190-40

    Raises:
        ConfigError: one of the two.
    """
    if name not in NETWORKS and not is_external(name):
        others = " or ".join(f"{package}:NAME" for package in PROVIDERS)
        raise ConfigError(f"network: got {name!r}, accepted: {', '.join(NETWORKS)}; {others}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout: got {dropout!r}, accepted: a number from 0 to below 1")
    if dropout and name not in WITH_DROPOUT:
        accepted = ", ".join(WITH_DROPOUT)
        raise ConfigError(f"dropout: got {dropout!r} for {name!r}, accepted: 0; above it only for {accepted}")


def build_network(
    name: str, num_classes: int = 10, *, in_channels: int = 3, image_size: int = 32, dropout: float = 0.0
) -> nn.Module:
    """A freshly initialised network; the weights follow torch's default generator.

    >>> import torch
    >>> network = build_network("resnet-20", num_classes=100)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 100])

    Args:
        name: one of `NETWORKS`, or "torchvision:NAME" or "timm:NAME" for a classification network of those packages.
        num_classes: width of the output, at least 1.
        in_channels: channels of the images, at least 1.
        image_size: height and width of the images in pixels, at least 8; for the MLPs at least 1.
        dropout: rate inside the blocks of wide ResNets and DenseNets; the papers' code has 0.3 for WRN-28-10, and on
            SVHN 0.4 for WRN-16-8 and 0.2 for DenseNet-BC-100-12.

    Returns:
        A module from images (N, in_channels, image_size, image_size) to logits (N, num_classes). Every activation call
        site of those in `NETWORKS` is an `nn.ReLU`, or `nn.Tanh`, module of its own.

    Raises:
        ConfigError: an unknown name, a package that is not installed, or a number out of range.
    """
    check_network(name, dropout)
    for field, value, least in (
        ("num_classes", num_classes, 1),
        ("in_channels", in_channels, 1),
        ("image_size", image_size, 1 if name.startswith("mlp-") else 8),
    ):
        if value < least:
            raise ConfigError(f"{field}: got {value!r}, accepted: a whole number of at least {least}")
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    if is_external(name):
        return external(name, **sizes)
    return NETWORKS[name](**sizes, **({"dropout": dropout} if dropout else {}))
