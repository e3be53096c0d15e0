"""The arguments that `compare` and `train` share, and what they come to."""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dropact.cli.parser import UsageError

NEEDED = ("matplotlib", "numpy", "rich", "scipy", "sklearn")
METHOD_OPTIONS = {
    "drop_prob": ("drop-activation", "drop_prob", "probability that a nonlinearity is dropped (0.05)"),
    "dropout_rate": ("dropout", "rate", "rate of Dropout before the last layer (0.5)"),
    "rrelu_lower": ("rrelu", "lower", "lower end of RReLU's negative slope (1/8)"),
    "rrelu_upper": ("rrelu", "upper", "upper end of RReLU's negative slope (1/3)"),
}
SETTING_OPTIONS = ("epochs", "batch_size", "lr", "momentum", "weight_decay", "nesterov", "schedule", "lr_factor")


def require_extras() -> None:
    """Fails at once, rather than after the training, when a package of the extra is missing."""
    for package in NEEDED:
        if find_spec(package) is None:
            raise ModuleNotFoundError(name=package)


def add_training_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Network, data, optimiser and method options; None stands for the default of the data set."""
    parser.add_argument("--dataset", default="digits", help="digits (default), cifar10, cifar100, mnist, fashion-mnist")
    parser.add_argument("--network", help="simple-small, simple, resnet-20, resnet-56, resnet-110")
    parser.add_argument("--out", type=Path, default=Path(out), help=f"folder of the runs ({out})")
    parser.add_argument("--data", type=Path, help="folder of NAME.npz (DROPACT_DATA, else the cache folder)")
    parser.add_argument("--threads", type=int, help="threads of torch (1 on digits, else torch's own choice)")
    setting = parser.add_argument_group("setting")
    setting.add_argument("--epochs", type=int)
    setting.add_argument("--batch-size", type=int)
    setting.add_argument("--lr", type=float, help="largest learning rate")
    setting.add_argument("--momentum", type=float)
    setting.add_argument("--weight-decay", type=float)
    setting.add_argument("--nesterov", action=argparse.BooleanOptionalAction)
    setting.add_argument("--schedule", help="constant, one-cycle or step")
    setting.add_argument("--milestones", help="for step: epochs such as 81,122 at which the rate drops")
    setting.add_argument("--lr-factor", type=float, help="for step: what the rate is multiplied by (0.1)")
    options = parser.add_argument_group("methods")
    for name, (_, _, text) in METHOD_OPTIONS.items():
        options.add_argument(f"--{name.replace('_', '-')}", type=float, help=text)


def setting_of(args: argparse.Namespace) -> dict[str, Any]:
    """The default setting of the data set, with what was said on the command line in its place."""
    from dropact.experiments.recipes import default_setting

    setting = default_setting(args.dataset, args.network)
    setting.update({name: getattr(args, name) for name in SETTING_OPTIONS if getattr(args, name) is not None})
    if args.milestones is not None:
        try:
            setting["milestones"] = tuple(int(part) for part in args.milestones.split(","))
        except ValueError:
            raise UsageError(f"--milestones: got {args.milestones!r}, accepted: epochs such as 81,122") from None
    return setting


def method_options(args: argparse.Namespace, methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """The options given for each of `methods`."""
    chosen: dict[str, dict[str, float]] = {name: {} for name in methods}
    for argument, (method, option, _) in METHOD_OPTIONS.items():
        value = getattr(args, argument)
        if value is None:
            continue
        if method not in chosen:
            raise UsageError(f"--{argument.replace('_', '-')}: given without the method {method!r} it belongs to")
        chosen[method][option] = value
    return chosen


def set_threads(args: argparse.Namespace) -> None:
    """Steps on the digits are too small to be shared: a second thread costs more than it brings."""
    import torch

    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads: got {args.threads}, accepted: a whole number of at least 1")
    if args.threads is not None or args.dataset == "digits":
        torch.set_num_threads(args.threads or 1)


def command_line(args: argparse.Namespace) -> str:
    """The command as it can be typed again."""
    import shlex

    return shlex.join(["dropact", *args.words])
