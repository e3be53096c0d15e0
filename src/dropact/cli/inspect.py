"""`dropact inspect`: what the random activations of a network do."""

import argparse
import os
from pathlib import Path
from typing import Any

from dropact.cli.options import command_line, require_extras, set_threads
from dropact.cli.parser import UsageError, add_verb, threads, within

DESCRIPTION = """\
Looks at a finished run (its directory in runs/, or the weights in it) or at a network by name with its initial weights:
which activations are converted; for every layer the variance shift between training and evaluation, predicted and
measured, what is dropped, the slope below zero and dead channels; of a finished run the error before and after
BatchNorm is recalibrated; and what to do about it. Prints a table and writes the page --out.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "inspect", "variance shift, coverage and dead units of a network", DESCRIPTION, run)
    parser.add_argument("target", metavar="CHECKPOINT|NETWORK", help="a run's directory, its weights.pt, or a name")
    parser.add_argument("--images", type=within(2, 10**6), default=512, help="training images to look at (512)")
    parser.add_argument("--out", type=Path, default=Path("runs/inspect.html"), help="the page (runs/inspect.html)")
    parser.add_argument("--data", type=Path, help="folder of NAME.npz (DROPACT_DATA, else the cache folder)")
    parser.add_argument("--threads", type=threads, help="threads of torch (1 on digits, else torch's own choice)")
    named = parser.add_argument_group("a network by name")
    named.add_argument("--dataset", help="its images (digits for simple-small, else cifar10)")
    named.add_argument("--method", help="one that replaces activations, such as rrelu (drop-activation)")
    named.add_argument("--drop-prob", type=float, help="of drop-activation (0.05)")
    named.add_argument("--seed", type=int, help="of the initial weights (0)")


def run(args: argparse.Namespace) -> None:
    require_extras()
    import torch

    from dropact.cli.terminal import wide_console
    from dropact.experiments.comparison import check_folder
    from dropact.experiments.environment import describe
    from dropact.experiments.inspection import check_look, look_at, run_config, trained, untrained
    from dropact.experiments.models import NETWORKS
    from dropact.report.inspection import show_inspection, write_inspection
    from dropact.report.page import is_page

    path = Path(args.target)
    is_run = args.target not in NETWORKS and (path.exists() or path.suffix == ".pt" or len(path.parts) > 1)
    for name in ("dataset", "method", "drop_prob", "seed"):
        if is_run and getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')}: the run in {path} says it itself")
    config = run_config(path) if is_run else config_of(args)
    check_look(config, args.images)  # before anything is loaded
    if args.out.is_dir():
        raise UsageError(f"--out: got {args.out}, a folder, accepted: the name of a page")
    if os.path.lexists(args.out) and not is_page(args.out):
        raise UsageError(
            f"--out: {args.out} is no page of dropact and was left as it is, accepted: a new name or a page"
        )
    check_folder(args.out.parent)
    set_threads(args, config.dataset)
    target = trained(path, args.data) if is_run else untrained(config, args.data)
    torch.manual_seed(0)  # the masks: the same command shows the same figures
    found = look_at(target, args.images)
    write_inspection(found, target.title, describe(target.data, command_line(args), "cpu"), args.out)
    console = wide_console()
    show_inspection(found, target.title, console)
    console.print(f"Written: {args.out}", soft_wrap=True, markup=False, highlight=False)


def config_of(args: argparse.Namespace) -> Any:
    """The config of a network by name."""
    from dropact.experiments.config import RunConfig

    return RunConfig.from_dict(
        {
            "dataset": args.dataset or ("digits" if args.target == "simple-small" else "cifar10"),
            "network": args.target,
            "method": args.method or "drop-activation",
            "options": {} if args.drop_prob is None else {"drop_prob": args.drop_prob},
            "seed": 0 if args.seed is None else args.seed,
        }
    )
