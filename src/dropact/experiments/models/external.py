"""Any classification network of torchvision or timm, with fresh weights: "torchvision:resnet50", "timm:resnet50"."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import nn

from dropact.experiments.errors import ConfigError

PACKAGES = ("torchvision", "timm")
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
    return package in PACKAGES and bool(colon and network)


def is_available(name: str) -> bool:
    """Whether the package that a network comes from is installed here; ours always is."""
    return not is_external(name) or find_spec(name.partition(":")[0]) is not None


def _package(name: str) -> ModuleType:
    package = name.partition(":")[0]
    if not is_available(name):
        raise ConfigError(f"network: got {name!r}, but {package} is not installed; say: pip install {package}")
    return import_module(package)


def _accepted(name: str, network: str, names: list[str], package: ModuleType) -> None:
    if network not in names:
        from difflib import get_close_matches

        close = ", ".join(get_close_matches(network, names, n=5, cutoff=0.4)) or "see its documentation"
        raise ConfigError(
            f"network: got {name!r}, accepted: one of the {len(names)} classification networks of "
            f"{package.__name__} {package.__version__}, such as {close}"
        )


def external(name: str, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """The network `name` of another package, for square images of `image_size` pixels.

    >>> network = external("torchvision:resnet18", num_classes=7, in_channels=3, image_size=64)
    >>> network.fc.out_features
    7

    Raises:
        ConfigError: the package is not installed, has no such network, or the network cannot be built for such images.
    """
    package = _package(name)
    network = name.partition(":")[2]
    if package.__name__ == "timm":
        _accepted(name, network, package.list_models(), package)
        options: dict[str, Any] = (
            {"img_size": image_size} if package.get_pretrained_cfg(network).fixed_input_size else {}
        )
        try:
            return package.create_model(
                network, pretrained=False, num_classes=num_classes, in_chans=in_channels, **options
            )
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise _refusal(name, in_channels, image_size, error) from error
    models = import_module("torchvision.models")
    _accepted(name, network, models.list_models(module=models), package)
    if in_channels != 3:
        raise ConfigError(f"in_channels: got {in_channels} for {name!r}, accepted: 3")
    options = _TORCHVISION_OPTIONS.get(network, {})
    if network.startswith("vit_"):
        options = {"image_size": image_size}
    elif network.startswith("maxvit"):
        options = {"input_size": (image_size, image_size)}
    try:
        return models.get_model(network, weights=None, num_classes=num_classes, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _refusal(name, in_channels, image_size, error) from error


def _refusal(name: str, in_channels: int, image_size: int, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ConfigError(
        f"network: {name!r} cannot be built for {in_channels} channels and {image_size} pixels ({reason})"
    )
