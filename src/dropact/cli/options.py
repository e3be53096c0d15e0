"""The arguments that `compare` and `train` share, and what they come to."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dropact.cli.parser import UsageError, place, seconds, share, threads

CHECKPOINTS = 300.0  # seconds
PACE = ("precision", "memory_format", "compiled")  # fields that are left to the machine where nobody says them
NEEDED = ("matplotlib", "numpy", "rich", "scipy", "sklearn")
# argument: (entry of METHODS, its option, type, help)
METHOD_OPTIONS: Mapping[str, tuple[str, str, Callable[[str], float], str]] = {
    "drop_prob": ("drop-activation", "drop_prob", float, "probability that a nonlinearity is dropped (0.05)"),
    "dropout_rate": ("dropout", "rate", float, "rate of Dropout before the last layer (0.5)"),
    "hidden_dropout_rate": ("hidden-dropout", "hidden_rate", float, "rate of Dropout in all hidden layers (0.5)"),
    "last_survival": ("stochastic-depth", "last_survival", float, "survival rate of the last branch (0.5)"),
    "uniform_budget": ("depth-uniform", "uniform_budget", float, "mean share of active branches (0.75)"),
    "linear_budget": ("depth-linear", "linear_budget", float, "the same, from 0.5 on (0.75)"),
    "sensitive_budget": ("depth-sensitivity", "sensitive_budget", float, "the same (0.75)"),
    "rrelu_lower": ("rrelu", "lower", float, "lower end of RReLU's negative slope (1/8)"),
    "rrelu_upper": ("rrelu", "upper", float, "upper end of RReLU's negative slope (1/3)"),
    "aid_drop_prob": ("aid", "aid_drop_prob", float, "probability that AID passes the negative part (0.1)"),
    "stocha_drop_prob": ("stocha", "stocha_drop_prob", float, "probability of StochA's SiLU below zero (0.5)"),
    "cutout_size": ("cutout", "size", int, "side of Cutout's hole in pixels (cifar10 16, cifar100 8, svhn 20)"),
}
# Written out, for the lists stand in modules that load torch; a test holds them to be complete.
DATASET_HELP = (
    "digits (default), mnist, fashion-mnist, emnist-balanced, -byclass, -bymerge, -letters, -digits, -mnist, cifar10, "
    "cifar100, svhn"
)
NETWORK_HELP = (
    "simple, simple-small, -half, -double, -plain, cnn, cnn-bn, mlp-800-800, mlp-1000-800-200, mlp-1024-1024-1024, "
    "mlp-tanh-256-256-256, "
    "resnet-18, -20, -32, -56, -110, -164, preresnet-110, -164, wrn-16-1, -16-2, -16-4, -16-8, -20-10, -28-10, "
    "densenet-bc-100-12, "
    "densenet-bc-190-40, resnext-29-8x64d, or torchvision:NAME, timm:NAME"
)
METHOD_HELP = (
    "baseline, dropout, hidden-dropout, rrelu, drop-activation, gaaf, aid, stocha, stochastic-depth, "
    "depth-uniform, depth-linear, depth-sensitivity, cutout, autoaugment, or several joined by +"
)
_NO_SETTING = ("dataset", "network", "method", "options", "seed", "milestones")  # said or read in another way


def require_extras(*more: str) -> None:
    """Fails at once, rather than after the training, when a package of the extra is missing."""
    for package in (*NEEDED, *more):
        if find_spec(package) is None:
            raise ModuleNotFoundError(name=package)


def add_pace_options(parser: argparse.ArgumentParser) -> None:
    """What runs are made with; None stands for what suits the device."""
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--precision", help="float32 or bfloat16 (default: what the device is fast at)")
    parser.add_argument("--memory-format", help="contiguous or channels_last (default: what the device is fast at)")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, help="train through torch.compile")
    parser.add_argument(
        "--cuda-graphs",
        dest="compiled",
        action="store_const",
        const="reduce-overhead",
        help="compiled, and replayed as CUDA graphs: for networks that wait for the host",
    )
    parser.add_argument(
        "--threads",
        type=threads,
        help="of torch (1 on digits, else torch's own choice; with --on of each run its share)",
    )


def add_run_options(parser: argparse.ArgumentParser, out: Path | None, where: str) -> None:
    """Where runs are kept and their data lie, and what they are made with."""
    parser.add_argument("--out", type=Path, default=out, help=f"folder of the runs ({where})")
    parser.add_argument("--data", type=Path, help="folder of NAME.npz (DROPACT_DATA, else the cache folder)")
    add_pace_options(parser)
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files beside the records")
    parser.add_argument(
        "--checkpoint-seconds",
        type=seconds,
        metavar="N",
        help=f"within an epoch, seconds between the checkpoints that a stopped run goes on from ({CHECKPOINTS:g})",
    )


def add_grid_options(parser: argparse.ArgumentParser) -> None:
    """Where the runs of a grid are trained."""
    parser.add_argument(
        "--on",
        type=place,
        metavar="PLACE",
        help="local:N, so many processes of this machine; ray, or ray:ADDRESS, a Ray cluster (this process)",
    )
    parser.add_argument("--cpus-per-run", type=share, metavar="N", help="on Ray: cores of each run (1)")
    parser.add_argument(
        "--gpus-per-run",
        type=share,
        metavar="N",
        help="on Ray: GPUs of each run, such as 0.25 (1 with cuda, else 0)",
    )


def add_training_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Network, data, optimiser and method options; None stands for the default of the data set."""
    parser.add_argument("--dataset", default="digits", help=DATASET_HELP)
    parser.add_argument("--network", help=NETWORK_HELP)
    add_run_options(parser, Path(out), out)
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
    setting.add_argument("--train-on", help="train, or train+validation: then there is no validation error")
    setting.add_argument("--train-images", type=int, metavar="N", help="of that part, drawn by each seed (all)")
    setting.add_argument("--evaluate-every", type=int, metavar="N", help="epochs between evaluations (1)")
    setting.add_argument("--augmentation", help="none, flip or crop+flip")
    setting.add_argument("--label-smoothing", type=float, help="share of the target spread over all classes (0)")
    setting.add_argument("--clip-norm", type=float, help="largest norm of the gradient (0: not clipped)")
    setting.add_argument("--ema-decay", type=float, help="of a running average of the weights (0: none)")
    setting.add_argument("--normalisation", help="standardise (default) or scale: pixels to [0, 1]")
    setting.add_argument("--dropout", type=float, help="rate inside the blocks of wide ResNets and DenseNets (0)")
    setting.add_argument(
        "--recalibrated",
        action=argparse.BooleanOptionalAction,
        help="also the test error with BatchNorm's statistics recomputed for evaluation",
    )
    setting.add_argument("--microbatches", type=int, help="parts of each batch, each with masks of its own (1)")
    setting.add_argument("--shared-masks", action=argparse.BooleanOptionalAction, help="the same masks in all of them")
    setting.add_argument("--sync-batchnorm", action=argparse.BooleanOptionalAction, help="statistics over all of them")
    options = parser.add_argument_group("methods")
    for name, (_, _, kind, text) in METHOD_OPTIONS.items():
        options.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)


def pace_of(args: argparse.Namespace, dataset: str, held: Mapping[str, Any] | None) -> dict[str, Any]:
    """Precision and layout: those said, else what suits the device."""
    from dropact.experiments.hardware import checked_device, fast_fields

    checked_device(args.device)
    return fast_fields(args.device, dataset) | pace_said(args, held)


def pace_said(args: argparse.Namespace, held: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those on the command line, else those of the setting that --out holds: a folder can be extended elsewhere."""
    pace = {} if held is None else {name: held[name] for name in PACE}
    return pace | {name: getattr(args, name) for name in PACE if getattr(args, name) is not None}


def setting_options(args: argparse.Namespace) -> list[str]:
    """The arguments that are fields of a config under their own name."""
    from dropact.experiments.config import RunConfig

    return [each.name for each in fields(RunConfig) if each.name not in _NO_SETTING and hasattr(args, each.name)]


def setting_of(args: argparse.Namespace, held: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The default setting of the data set, at its pace, with what was said on the command line in its place.

    Args:
        held: the setting that --out holds already.
    """
    from dropact.experiments.recipes import default_setting

    names = setting_options(args)
    setting = {**default_setting(args.dataset, args.network), **pace_of(args, args.dataset, held)}
    setting.update({name: getattr(args, name) for name in names if getattr(args, name) is not None})
    if args.milestones is not None:
        try:
            setting["milestones"] = tuple(int(part) for part in args.milestones.split(","))
        except ValueError:
            raise UsageError(f"--milestones: got {args.milestones!r}, accepted: epochs such as 81,122") from None
    return setting


def method_options(args: argparse.Namespace, methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """The options given for each of `methods`; a combination takes those of its parts."""
    chosen: dict[str, dict[str, float]] = {name: {} for name in methods}
    for argument, (part, option, _, _) in METHOD_OPTIONS.items():
        value = getattr(args, argument)
        if value is None:
            continue
        takers = [name for name in methods if part in name.split("+")]
        if not takers:
            raise UsageError(f"--{argument.replace('_', '-')}: given without the method {part!r} it belongs to")
        for name in takers:
            chosen[name][option] = value
    return chosen


def command_line(args: argparse.Namespace) -> str:
    """The command as it can be typed again."""
    import shlex

    return shlex.join(["dropact", *args.words])


def set_threads(args: argparse.Namespace, *datasets: str) -> None:
    """Steps on the digits are too small to be shared: a second thread costs more than it brings."""
    import torch

    if args.threads is not None or set(datasets) == {"digits"}:
        torch.set_num_threads(args.threads or 1)
