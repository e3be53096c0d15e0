"""`dropact compare`: several methods on several seeds, then the report."""

import argparse
from typing import Any

from dropact.cli.options import (
    METHOD_HELP,
    add_grid_options,
    add_training_options,
    method_options,
    require_extras,
    setting_of,
)
from dropact.cli.parser import add_verb, names, seeds
from dropact.cli.runs import require_one_process, train_grid

DESCRIPTION = """\
Trains a network with several methods on the same seeds and reports the test error of the last epoch, its 95 % interval,
and the paired difference to the baseline. The default takes about a minute on two cores and needs no network.

The folder --out holds comparison.json, one directory per run in runs/, and the report. The same command resumes
automatically, bit-identically; more --methods or --seeds under the same setting join what is there; another setting
is refused.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "compare", "train several methods on several seeds and report", DESCRIPTION, run)
    parser.add_argument(
        "--methods",
        type=names,
        default="baseline,dropout,rrelu,drop-activation",
        help=f"comma-separated (default: baseline,dropout,rrelu,drop-activation), of {METHOD_HELP}",
    )
    parser.add_argument(
        "--seeds", type=seeds, default="10", help="a count (default: 10) or a list such as 0,1,2 or 0-9"
    )
    add_training_options(parser, out="runs/compare")
    add_grid_options(parser)
    parser.set_defaults(goes_on=True)


def run(args: argparse.Namespace) -> None:
    require_extras(*["tensorboard"] * args.tensorboard)
    require_one_process()
    from dropact.experiments.comparison import Comparison, join_folder, read_claim
    from dropact.experiments.grid import finished_runs

    held = read_claim(Comparison, args.out)
    asked = Comparison.of(
        setting_of(args, held.setting if held else None), method_options(args, args.methods), args.seeds
    )
    join_folder(args.out, asked)  # refused before anything is loaded or written
    finished = finished_runs(args.out)  # a damaged one is found before anything is written
    train_grid(asked, finished, args)
