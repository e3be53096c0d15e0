"""What is done with the configs that `compare`, `train` and `reproduce` ask for: load, check, train, report."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from dropact.cli.options import CHECKPOINTS, command_line, require_extras, set_threads
from dropact.cli.parser import UsageError
from dropact.cli.report import report_on

if TYPE_CHECKING:
    from dropact.experiments.comparison import Comparison
    from dropact.experiments.config import RunConfig
    from dropact.experiments.data import Dataset
    from dropact.experiments.ranks import Ranks
    from dropact.experiments.records import Run
    from dropact.experiments.reproduction import Reproduction


def train_all(
    configs: "Sequence[RunConfig]",
    args: argparse.Namespace,
    data: "Dataset | Sequence[Dataset]",
    ranks: "Ranks | None" = None,
    known: "Sequence[Run]" = (),
) -> None:
    """Trains what is not finished into --out, with progress on the terminal; `known` as `run_grid` takes it."""
    from dropact.cli.progress import Bars
    from dropact.experiments.grid import run_grid
    from dropact.experiments.ranks import ALONE
    from dropact.experiments.tensorboard import TensorBoard
    from dropact.experiments.watch import Watcher, Watchers

    ranks = ranks or ALONE
    with Bars(configs) if ranks.rank == 0 else nullcontext(Watcher()) as watcher:
        run_grid(
            configs,
            args.out,
            data,
            Watchers(watcher, TensorBoard(args.out)) if args.tensorboard and ranks.rank == 0 else watcher,
            command_line(args),
            device=args.device,
            checkpoint_seconds=checkpoint_seconds(args),
            ranks=ranks,
            known=known,
        )


def checkpoint_seconds(args: argparse.Namespace) -> float:
    """As `run_grid` takes it."""
    return CHECKPOINTS if args.checkpoint_seconds is None else args.checkpoint_seconds


def train_grid(asked: "Comparison | Reproduction", finished: "Sequence[Run]", args: argparse.Namespace) -> None:
    """Claims --out for a grid, trains what is not finished of it, here or where --on says, and reports.

    Args:
        finished: the runs that --out holds.
    """
    from dropact.experiments.errors import NoRunsError, TrainingError

    try:
        _train_grid(asked, finished, args)
    except TrainingError:  # of some runs; the others are there, and the report says which are not
        with suppress(NoRunsError):
            report_on(args.out, finished)
        raise
    report_on(args.out, finished)


def _train_grid(asked: "Comparison | Reproduction", finished: "Sequence[Run]", args: argparse.Namespace) -> None:
    from dropact.cli.progress import Bars
    from dropact.experiments.comparison import claim_folder
    from dropact.experiments.data.registry import data_folder
    from dropact.experiments.hardware import usable_cores
    from dropact.experiments.launchers.grid import Job, Launcher, launch_grid
    from dropact.experiments.launchers.local import local
    from dropact.experiments.launchers.ray import ray_cluster

    for name in ("cpus_per_run", "gpus_per_run"):
        value = getattr(args, name)
        if value is not None and (args.on is None or args.on[0] != "ray"):
            raise UsageError(f"--{name.replace('_', '-')}: given without --on ray, which it belongs to")
    if args.on is not None and args.on[0] == "ray":
        require_extras("ray")
    configs = asked.configs()
    names = list(dict.fromkeys(config.dataset for config in configs))
    set_threads(args, *names)
    data = checked_data(configs, finished, args)
    if args.on is None:
        claim_folder(args.out, asked)
        train_all(configs, args, data, known=finished)
        return
    kind, which = args.on
    cpus = 1.0 if args.cpus_per_run is None else args.cpus_per_run
    gpus = float(args.device == "cuda") if args.gpus_per_run is None else args.gpus_per_run
    if kind == "ray":
        over: Launcher[Any] = ray_cluster(which, cpus, gpus)
        threads = int(cpus)
    else:
        over = local(int(which or 1), args.device)
        threads = usable_cores() // int(which or 1)
    claim_folder(args.out, asked)
    job = Job(
        folder=args.out.absolute(),
        root=data_folder(args.data).absolute(),
        command=command_line(args),
        device=args.device,
        checkpoint_seconds=checkpoint_seconds(args),
        threads=args.threads or (1 if names == ["digits"] else max(threads, 1)),
        tensorboard=args.tensorboard,
    )
    with Bars(configs) as bars:
        launch_grid(configs, args.out, job, over, bars, finished)


def checked_data(
    configs: "Sequence[RunConfig]", finished: "Sequence[Run]", args: argparse.Namespace
) -> "list[Dataset]":
    """The data sets of a grid, when its configs are known to be trainable on them beside what --out holds.

    They are also loaded, and made from their official files, where others train.
    """
    from dropact.experiments.hardware import checked_device
    from dropact.experiments.validation import check_data, check_runnable, load_data

    elsewhere = args.on is not None and args.on[0] == "ray"  # on machines like no other
    data = load_data(configs, args.data, elsewhere)
    check_data(finished, data)
    done = {run.config.key for run in finished}
    left = [config for config in configs if config.key not in done]
    check_runnable(left, data, None if elsewhere else checked_device(args.device))
    return data


def require_one_process() -> None:
    """That torchrun did not start this, which would train the whole grid once in every rank."""
    from dropact.experiments.ranks import launched

    if launched() > 1:
        raise UsageError(f"torchrun: got {launched()} ranks, accepted: 1; `dropact train` trains one run on many")
