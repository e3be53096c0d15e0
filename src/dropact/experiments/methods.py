"""The methods compared, by name. A later method is one more entry of `METHODS`.

A method changes the network, the images, or both. The network is a plain one, already initialised, changed in place;
weights and their names stay. Methods combine with "+": "cutout+drop-activation".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from dropact.diagnostics import sensitivities
from dropact.experiments.errors import ConfigError
from dropact.experiments.models import activation_of
from dropact.experiments.schema import mismatch
from dropact.methods import AID, GAAF, DropActivation, RandomizedReLU, StochA
from dropact.schedules import linear_survival, sensitivity_survival
from dropact.surgery import add_stochastic_depth_, convert_
from dropact.surgery.depth import Survival

Options = Mapping[str, float]
Sample = Callable[[], tuple[Tensor, Tensor]]  # some normalised training images and their labels


@dataclass(frozen=True)
class Option:
    """A number of a method: its default, or one per data set, and the range it must lie in."""

    default: float | Mapping[str, float]
    least: float = 0
    most: float = 1
    whole: bool = False
    shown: str = ""  # in tables, where it is not its name

    @property
    def accepted(self) -> str:
        return f"a {'whole ' if self.whole else ''}number from {self.least:g} to {self.most:g}"

    def default_for(self, name: str, dataset: str) -> float:
        if not isinstance(self.default, Mapping):
            return self.default
        if dataset not in self.default:
            raise ConfigError(f"{name}: not given, and {dataset!r} has no default, accepted: {self.accepted}")
        return self.default[dataset]

    def checked(self, name: str, value: object) -> float:
        kind = int if self.whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not self.least <= value <= self.most:
            raise ConfigError(str(mismatch(name, value, self.accepted)))
        return value if self.whole else float(value)


@dataclass(frozen=True)
class Regulariser:
    """One entry: how tables call it, its options, and what it does.

    Args:
        options: by names that no other method has, because methods that are combined share one list.
        network: changes the network in place.
        network_on: the same, where that takes looking at training images.
        images: from the options and the data set to fields of `Augmentation`.
        datasets: those it is defined on; empty for any.
        replaces_activations: two such methods cannot be combined.
        drops_branches: nor two of these.
        check: raises a ConfigError for options that do not go together.
    """

    label: str
    options: Mapping[str, Option] = field(default_factory=dict)
    network: Callable[[nn.Module, Options], None] | None = None
    network_on: Callable[[nn.Module, Options, Sample], None] | None = None
    images: Callable[[Options, str], Mapping[str, Any]] | None = None
    datasets: Mapping[str, str] = field(default_factory=dict)
    replaces_activations: bool = False
    drops_branches: bool = False
    check: Callable[[Options], None] = lambda options: None


def _drop_inputs(layers: Sequence[nn.Module], rate: float, which: str) -> None:
    if not layers:
        raise ConfigError(f"method: got one that drops inputs of {which}, but the network has none")

    def drop(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return F.dropout(inputs[0], rate, module.training)

    # A hook rather than an nn.Dropout in front: the names of the weights stay those of the plain network.
    for layer in layers:
        layer.register_forward_pre_hook(drop)


def _linears(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def _dropout(network: nn.Module, options: Options) -> None:
    _drop_inputs(_linears(network)[-1:], options["rate"], "the last fully connected layer")


def _hidden_dropout(network: nn.Module, options: Options) -> None:
    _drop_inputs(_linears(network)[1:], options["hidden_rate"], "fully connected layers after the first")


@contextmanager
def _refused_as(what: str) -> Iterator[None]:
    """The refusal of a network as one of the method that does this to it."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"method: got one that {what}, but {error}") from None


def _activations(
    label: str, options: Mapping[str, Option], made: Callable[[Options], nn.Module], **more: Any
) -> Regulariser:
    """Every activation replaced by the layer that is made of the options."""

    def change(network: nn.Module, options: Options) -> None:
        with _refused_as("replaces activations"):
            convert_(network, made(options))

    return Regulariser(label, options, change, replaces_activations=True, **more)


def _slopes_in_order(options: Options) -> None:
    if options["lower"] > options["upper"]:
        raise ConfigError(f"lower: got {options['lower']!r}, accepted: at most upper = {options['upper']!r}")


def _even_hole(options: Options) -> None:
    if options["size"] % 2:
        raise ConfigError(f"size: got {options['size']!r}, accepted: an even number, so that the hole has a centre")


def _stochastic_depth(network: nn.Module, survival: Survival) -> None:
    with _refused_as("drops residual branches"):
        add_stochastic_depth_(network, survival)


def _branches(label: str, options: Mapping[str, Option], survival: Callable[[Options], Survival]) -> Regulariser:
    """Every residual branch dropped, at survival rates that follow from the options."""
    return Regulariser(
        label, options, lambda network, options: _stochastic_depth(network, survival(options)), drops_branches=True
    )


def _linear_budget(options: Options) -> Survival:
    return lambda depth: linear_survival(depth, budget=options["linear_budget"] * depth)


def _sensitive_budget(network: nn.Module, options: Options, sample: Sample) -> None:
    images, labels = sample()
    with _refused_as("drops residual branches"):
        values = sensitivities(network, F.cross_entropy, (images, labels))
    _stochastic_depth(network, sensitivity_survival(values, options["sensitive_budget"] * len(values)))


# The policies that Cubuk et al. (2019) found, in torchvision's names, and the data sets they stand for.
POLICY_OF = {"cifar10": "cifar10", "cifar100": "cifar10", "svhn": "svhn"}

# Tables list them in this order.
METHODS: Mapping[str, Regulariser] = {
    "baseline": Regulariser("ReLU (baseline)"),
    # On the input of the last fully connected layer, at the rate of Srivastava et al. for hidden units: our choice,
    # the Drop-Activation paper compares with Dropout in words only.
    "dropout": Regulariser("Dropout", {"rate": Option(0.5)}, _dropout),
    "rrelu": _activations(
        "RReLU",
        {"lower": Option(1 / 8), "upper": Option(1 / 3)},
        lambda options: RandomizedReLU(lower=options["lower"], upper=options["upper"]),
        check=_slopes_in_order,
    ),
    "drop-activation": _activations(
        "Drop-Activation",
        {"drop_prob": Option(0.05)},
        lambda options: DropActivation(drop_prob=options["drop_prob"]),
    ),
    "autoaugment": Regulariser(
        "AutoAugment", images=lambda options, dataset: {"autoaugment": POLICY_OF[dataset]}, datasets=POLICY_OF
    ),
    # The side of the hole in pixels: DeVries and Taylor (2017).
    "cutout": Regulariser(
        "Cutout",
        {"size": Option({"cifar10": 16, "cifar100": 8, "svhn": 20}, least=2, most=1024, whole=True)},
        images=lambda options, dataset: {"cutout": options["size"]},
        check=_even_hole,
    ),
    # On the input of every fully connected layer but the first: what "dropout" means of a multilayer perceptron.
    "hidden-dropout": Regulariser(
        "Dropout in all hidden layers", {"hidden_rate": Option(0.5, shown="rate")}, _hidden_dropout
    ),
    "gaaf": _activations("GAAF", {}, lambda options: GAAF()),
    # Huang et al. (2016): the survival rates fall to that of the last block in a straight line.
    "stochastic-depth": _branches(
        "Stochastic depth",
        {"last_survival": Option(0.5)},
        lambda options: partial(linear_survival, last=options["last_survival"]),
    ),
    # At the same budget, the mean share of active branches (Hayou and Ayed, 2021).
    "depth-uniform": _branches(
        "Stochastic depth, uniform",
        {"uniform_budget": Option(0.75, shown="budget")},
        lambda options: options["uniform_budget"],
    ),
    "depth-linear": _branches(
        "Stochastic depth, linear", {"linear_budget": Option(0.75, least=0.5, shown="budget")}, _linear_budget
    ),
    "depth-sensitivity": Regulariser(
        "Stochastic depth, by sensitivity",
        {"sensitive_budget": Option(0.75, shown="budget")},
        network_on=_sensitive_budget,
        drops_branches=True,
    ),
    "aid": _activations(
        "AID",
        {"aid_drop_prob": Option(0.1, shown="drop_prob")},
        lambda options: AID(drop_prob=options["aid_drop_prob"]),
    ),
    # No last epochs with ReLU alone, as the paper has them: our runs have one network from beginning to end.
    "stocha": _activations(
        "StochA",
        {"stocha_drop_prob": Option(0.5, shown="drop_prob")},
        lambda options: StochA(drop_prob=options["stocha_drop_prob"]),
    ),
}


def parts_of(method: str) -> tuple[str, ...]:
    """The entries of `METHODS` that `method` combines: what changes the images first, else in the order of `METHODS`.

    >>> parts_of("drop-activation+cutout")
    ('cutout', 'drop-activation')

    Raises:
        ConfigError: an unknown entry, one named twice, or entries that exclude each other.
    """
    accepted = f"{', '.join(METHODS)}, or several joined by '+'"
    names = method.split("+") if isinstance(method, str) else [method]
    if unknown := [name for name in names if name not in METHODS]:
        raise ConfigError(f"method: got {unknown[0]!r}, accepted: {accepted}")
    if len(set(names)) < len(names) or ("baseline" in names and len(names) > 1):
        raise ConfigError(f"method: got {method!r}, accepted: each method once, and 'baseline' alone")
    for does, exclusive in (
        ("replace ReLU", [name for name in names if METHODS[name].replaces_activations]),
        ("drop residual branches", [name for name in names if METHODS[name].drops_branches]),
    ):
        if len(exclusive) > 1:
            raise ConfigError(f"method: got {method!r}, accepted: one of {' and '.join(exclusive)}, which both {does}")
    order = list(METHODS)
    return tuple(sorted(names, key=lambda name: (METHODS[name].images is None, order.index(name))))


def rank(method: str) -> tuple[int, ...]:
    """Sorts methods as tables list them: in the order of `METHODS`, a combination behind its first part."""
    return tuple(map(list(METHODS).index, parts_of(method)))


def label(method: str, network: str = "") -> str:
    """What tables call it; the baseline is named after the activation of the network.

    >>> label("cutout+drop-activation"), label("baseline", "mlp-tanh-256-256-256")
    ('Cutout + Drop-Activation', 'tanh (baseline)')
    """
    if method == "baseline":
        return f"{activation_of(network)} (baseline)"
    return " + ".join(METHODS[name].label for name in parts_of(method))


def complete_options(method: str, options: Mapping[str, object], dataset: str) -> dict[str, float]:
    """The options of `method` on a data set, with the defaults filled in.

    >>> complete_options("cutout+drop-activation", {"drop_prob": 0.1}, "cifar100")
    {'size': 8, 'drop_prob': 0.1}

    Raises:
        ConfigError: an unknown method, one that is not defined on this data set, an option it does not have, or a
            value out of range.
    """
    methods = {name: METHODS[name] for name in parts_of(method)}
    for name, part in methods.items():
        if part.datasets and dataset not in part.datasets:
            raise ConfigError(f"method: got {name!r} on {dataset!r}, accepted: on {', '.join(part.datasets)}")
    known = {name: option for part in methods.values() for name, option in part.options.items()}
    for name in options:
        if name not in known:
            raise ConfigError(f"options: got {name!r} for method {method!r}, accepted: {', '.join(known) or 'none'}")
    complete = {
        name: option.checked(name, options[name] if name in options else option.default_for(name, dataset))
        for name, option in known.items()
    }
    for part in methods.values():
        part.check(complete)
    return complete


def _no_sample() -> tuple[Tensor, Tensor]:
    raise ConfigError("method: got one that looks at training images, accepted: with images to look at")


def apply_to_network(network: nn.Module, method: str, options: Options, sample: Sample = _no_sample) -> None:
    """Changes `network` in place to train with `method`; `options` are complete."""
    for name in parts_of(method):
        entry = METHODS[name]
        if entry.network is not None:
            entry.network(network, options)
        if entry.network_on is not None:
            entry.network_on(network, options, sample)


def image_fields(method: str, options: Options, dataset: str) -> dict[str, Any]:
    """The fields of `Augmentation` that `method` sets; `options` are complete.

    >>> image_fields("cutout+drop-activation", {"size": 8, "drop_prob": 0.05}, "cifar100")
    {'cutout': 8}
    """
    fields: dict[str, Any] = {}
    for name in parts_of(method):
        if (change := METHODS[name].images) is not None:
            fields |= change(options, dataset)
    return fields
