"""The methods compared, by name. A later method is one more row of `METHODS`.

A method takes a plain network that is already initialised and changes it in place; weights and their names stay.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from dropact.experiments.errors import ConfigError
from dropact.methods import DropActivation, RandomizedReLU
from dropact.surgery import convert_

Options = Mapping[str, float]


@dataclass(frozen=True)
class Method:
    """One row: how tables call it, its options with their defaults (each in [0, 1]), and what it does."""

    label: str
    apply: Callable[[nn.Module, Options], None]
    defaults: Options = field(default_factory=dict)


def _baseline(network: nn.Module, options: Options) -> None:
    """The network as it is, with ReLU."""


def _dropout(network: nn.Module, options: Options) -> None:
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]

    def drop(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return F.dropout(inputs[0], options["rate"], module.training)

    # A hook rather than an nn.Dropout in front: the names of the weights stay those of the plain network.
    linears[-1].register_forward_pre_hook(drop)


def _randomized_relu(network: nn.Module, options: Options) -> None:
    convert_(network, RandomizedReLU(lower=options["lower"], upper=options["upper"]))


def _drop_activation(network: nn.Module, options: Options) -> None:
    convert_(network, DropActivation(drop_prob=options["drop_prob"]))


METHODS: Mapping[str, Method] = {
    "baseline": Method("ReLU (baseline)", _baseline),
    # On the input of the last fully connected layer, at the rate of Srivastava et al. for hidden units: our choice,
    # the Drop-Activation paper compares with Dropout in words only.
    "dropout": Method("Dropout", _dropout, {"rate": 0.5}),
    "rrelu": Method("RReLU", _randomized_relu, {"lower": 1 / 8, "upper": 1 / 3}),
    "drop-activation": Method("Drop-Activation", _drop_activation, {"drop_prob": 0.05}),
}


def complete_options(name: str, options: Mapping[str, object]) -> dict[str, float]:
    """The options of method `name` with its defaults filled in.

    >>> complete_options("drop-activation", {})
    {'drop_prob': 0.05}

    Raises:
        ConfigError: an unknown method, an option it does not have, or a value that is not a number in [0, 1].
    """
    if name not in METHODS:
        raise ConfigError(f"method: got {name!r}, accepted: {', '.join(METHODS)}")
    defaults = METHODS[name].defaults
    for option, value in options.items():
        if option not in defaults:
            accepted = ", ".join(defaults) or "none"
            raise ConfigError(f"options: got {option!r} for method {name!r}, accepted: {accepted}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"{option}: got {value!r}, accepted: a number from 0 to 1")
    complete = {option: float(options.get(option, default)) for option, default in defaults.items()}  # type: ignore[arg-type]
    if name == "rrelu" and complete["lower"] > complete["upper"]:
        raise ConfigError(f"lower: got {complete['lower']!r}, accepted: at most upper = {complete['upper']!r}")
    return complete


def apply_method(network: nn.Module, name: str, options: Options) -> None:
    """Changes `network` in place to train with method `name`; `options` are complete."""
    METHODS[name].apply(network, options)
