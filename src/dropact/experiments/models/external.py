"""Any classification network of torchvision or timm, with fresh weights: "torchvision:resnet50", "timm:resnet50"."""

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import nn

from dropact.experiments.errors import ConfigError

PROVIDERS = ("torchvision", "timm")
# These two have a second classifier, for training only, and warn unless told how to draw their weights.
_TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def is_external(name: str) -> bool:
    """Whether `name` has the form "package:network"; whether there is such a network is asked when it is built.

    >>> is_external("torchvision:resnet50"), is_external("resnet-20"), is_external("keras:resnet50")
    (True, False, False)
    """
    package, colon, network = name.partition(":")
    return package in PROVIDERS and bool(colon and network)


def is_available(name: str) -> bool:
    """Whether the package that a network comes from is installed here; ours always is."""
    return not is_external(name) or find_spec(name.partition(":")[0]) is not None


def check_external(name: str) -> None:
    """That a network of another package is there, without building it; one of ours is.

    Raises:
        ConfigError: the package is not installed, or has no such network.
    """
    if is_external(name):
        _package(name)


def _package(name: str) -> ModuleType:
    """What has the network: timm, or torchvision.models."""
    package, _, network = name.partition(":")
    if not is_available(name):
        raise ConfigError(f"network: got {name!r}, but {package} is not installed; say: pip install {package}")
    found = import_module("timm" if package == "timm" else "torchvision.models")
    names = found.list_models() if package == "timm" else found.list_models(module=found)
    if network not in names:
        from difflib import get_close_matches

        close = ", ".join(get_close_matches(network, names, n=5, cutoff=0.4) or names[:5])
        raise ConfigError(
            f"network: got {name!r}, accepted: one of the {len(names)} classification networks of "
            f"{package} {version(package)}, such as {close}"
        )
    return found


def external(name: str, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """The network `name` of another package, for square images of `image_size` pixels.

    >>> network = external("torchvision:resnet18", num_classes=7, in_channels=3, image_size=64)
    >>> network.fc.out_features
    7

    Raises:
        ConfigError: the package is not installed, has no such network, or the network cannot be built for such images.
    """
    models = _package(name)
    package, _, network = name.partition(":")
    options: dict[str, Any] = {}
    if package == "timm":
        options = {"pretrained": False, "in_chans": in_channels}
        if models.get_pretrained_cfg(network).fixed_input_size:
            options["img_size"] = image_size
    elif in_channels != 3:
        raise ConfigError(f"in_channels: got {in_channels} for {name!r}, accepted: 3")
    elif network.startswith("vit_"):
        options = {"image_size": image_size}
    elif network.startswith("maxvit"):
        options = {"input_size": (image_size, image_size)}
    else:
        options = _TORCHVISION_OPTIONS.get(network, {})
    try:
        build = models.create_model if package == "timm" else models.get_model
        return build(network, num_classes=num_classes, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"network: {name!r} cannot be built for {in_channels} channels and {image_size} pixels ({reason})"
        ) from error
