"""`dropact train`: one run."""

import argparse
from typing import Any

from dropact.cli.options import (
    METHOD_HELP,
    add_training_options,
    method_options,
    require_extras,
    set_threads,
    setting_of,
)
from dropact.cli.parser import add_verb
from dropact.cli.runs import train_all

DESCRIPTION = """\
Trains one network with one method and one seed, and keeps config, metrics and weights in OUT/runs/KEY, where KEY names
the config. The same command twice trains once; after a stop it goes on from the last checkpoint. `dropact report OUT`
shows all runs of the folder.

`torchrun --nproc-per-node 4 -m dropact train ...` trains the one run on four GPUs, or in four processes on the CPU:
each batch is cut into four microbatches, or into --microbatches, shared out evenly. With --microbatches 4 the same
command goes on with it in 2 processes, or in 1.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "train", "one run", DESCRIPTION, run)
    parser.add_argument("--method", default="drop-activation", help=f"{METHOD_HELP} (default: drop-activation)")
    parser.add_argument("--seed", type=int, default=0, help="a whole number of at least 0 (default: 0)")
    add_training_options(parser, out="runs/train")
    parser.set_defaults(goes_on=True)


def run(args: argparse.Namespace) -> None:
    require_extras(*["tensorboard"] * args.tensorboard)
    from dropact.cli.terminal import plain_console
    from dropact.experiments.comparison import check_run_folder
    from dropact.experiments.config import RunConfig
    from dropact.experiments.grid import finished_like
    from dropact.experiments.hardware import checked_device
    from dropact.experiments.ranks import joined, launched
    from dropact.experiments.records import RUNS, read_run
    from dropact.experiments.validation import check_data, check_runnable, load_data

    options = method_options(args, [args.method])[args.method]
    if args.microbatches is None:
        args.microbatches = launched()
    config = RunConfig.from_dict({**setting_of(args), "method": args.method, "options": options, "seed": args.seed})
    set_threads(args, args.dataset)
    with joined(args.device) as ranks:
        if ranks.rank == 0:
            check_run_folder(args.out)
        (data,) = load_data([config], args.data)
        if ranks.rank == 0:
            check_data(finished_like(config, args.out), [data])
        check_runnable([config], [data], checked_device(args.device), ranks)
        train_all([config], args, data, ranks)
    if ranks.rank:
        return
    directory = args.out / RUNS / config.key
    result = read_run(directory).result
    plain_console().print(
        f"Test error {result['test_error']:.2f} % at the last epoch; train error {result['train_error']:.2f} %; "
        f"best epoch (not used) {result['best_test_error']:.2f} %. Kept in {directory}"
    )
