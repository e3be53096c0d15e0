"""`dropact reproduce figure3`: the two regressions, their table and their picture."""

import argparse
from pathlib import Path

from dropact.cli.options import command_line
from dropact.cli.parser import UsageError
from dropact.cli.report import report_on_figure3

# What the networks of the other recipes take, and these two small ones do not.
_OTHERS = (
    "row",
    "methods",
    "epochs",
    "precision",
    "memory_format",
    "compiled",
    "tensorboard",
    "dry_run",
    "on",
    "cpus_per_run",
    "gpus_per_run",
    "data",
    "checkpoint_seconds",
)


def reproduce_figure3(args: argparse.Namespace) -> None:
    """Trains what is not there yet, then writes table and picture beside the record."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from dropact.experiments.recipes import figure3

    for name in _OTHERS:
        if getattr(args, name) is not None and getattr(args, name) is not False:  # 0 is said, too
            raise UsageError(f"--{name.replace('_', '-')}: figure3 is a regression of its own and does not take it")
    if args.device != "cpu":
        raise UsageError(f"--device: got {args.device!r}, accepted for figure3: cpu")
    torch.set_num_threads(args.threads or 1)  # 20 points make steps too small to be shared
    out = args.out or Path("runs/figure3")
    seeds = range(figure3.SEEDS) if args.seeds is None else args.seeds
    progress = Console(stderr=True)
    for seed in track(seeds, "seeds", console=progress, disable=not progress.is_terminal):
        figure3.run(out, [seed], command_line(args))
        if not progress.is_terminal:
            progress.print(f"seed {seed} is done", highlight=False)
    report_on_figure3(out)
