"""`dropact reproduce`: a table or figure of the paper, its numbers beside ours."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.cli.options import (
    add_grid_options,
    add_run_options,
    pace_said,
    require_extras,
)
from dropact.cli.parser import UsageError, add_verb, names, seeds
from dropact.cli.runs import require_one_process, train_grid

if TYPE_CHECKING:
    from dropact.experiments.reproduction import Reproduction

DESCRIPTION = """\
Trains the rows of a table (table1 ... table6) or figure (figure2, figure4, figure6) of the Drop-Activation paper, or of
a comparison of the GAAF paper (gaaf-mnist, gaaf-cifar10, gaaf-cifar100, gaaf-svhn) or of those on stochastic depth
(depth-table, depth-figure, depth-budget, depth-budget-small, depth-profiles), with the paper's settings as far as it
gives them, on several seeds, and reports the paper's number beside ours, with its interval, and the paired difference
to the baseline. See first what it would cost: `dropact plan table1`. figure3 is a regression of its own and takes only
--seeds, --out and --threads.

--epochs takes a shorter schedule: the learning rate drops at the same shares of it, and its results are marked as
shortened wherever they stand. The folder --out holds reproduction.json, one directory per run in runs/, and the report.
The same command resumes automatically, bit-identically; more rows, --methods or --seeds join what is there.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "reproduce", "train a table or figure of the paper and report both", DESCRIPTION, run)
    add_recipe_options(parser, "table1 ... table6, figure2, figure3, figure4, figure6, gaaf-mnist ...")
    add_run_options(parser, None, "runs/RECIPE, or runs/RECIPE-N-epochs with --epochs N")
    add_grid_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="only show what would be trained")
    parser.set_defaults(goes_on=True)


def add_recipe_options(parser: argparse.ArgumentParser, recipes: str) -> None:
    """What to train: a recipe, or a part of one."""
    parser.add_argument("recipe", metavar="RECIPE", help=recipes)
    parser.add_argument("--row", "--rows", type=names, metavar="ROW", help="comma-separated, such as resnet-164 (all)")
    parser.add_argument("--methods", type=names, help="comma-separated, of those the recipe has (all)")
    parser.add_argument("--seeds", type=seeds, help="a count, or a list such as 0,1,2 or 0-9 (the recipe's own count)")
    parser.add_argument("--epochs", type=int, help="length of the schedule (the paper's)")


def asked_for(args: argparse.Namespace, out: Path | None) -> "Reproduction":
    """The runs that the words on the command line ask for; `out` is the folder they are for, if any."""
    from dropact.experiments.comparison import read_claim
    from dropact.experiments.hardware import checked_device, fast_fields
    from dropact.experiments.recipes import recipe
    from dropact.experiments.reproduction import Reproduction

    made = recipe(args.recipe)
    held = read_claim(Reproduction, out) if out else None
    row = next(iter(held.rows.values())).setting if held is not None and held.rows else None
    checked_device(args.device)
    defaults = fast_fields(args.device, str(made.rows[0].setting["dataset"]))  # a row may say otherwise
    chosen = args.seeds if args.seeds is not None else list(range(made.seeds))
    return Reproduction.of(made, chosen, args.row, args.methods, args.epochs, pace_said(args, row), defaults)


def run(args: argparse.Namespace) -> None:
    require_extras(*["tensorboard"] * args.tensorboard)
    require_one_process()
    if args.recipe == "figure3":  # a regression: its runs are not those of the training loop
        from dropact.cli.figure3 import reproduce_figure3

        reproduce_figure3(args)
        return
    from dropact.experiments.comparison import join_folder
    from dropact.experiments.errors import ConfigError
    from dropact.experiments.grid import finished_runs
    from dropact.experiments.recipes import recipe

    try:
        made = recipe(args.recipe)
    except ConfigError as error:
        raise UsageError(f"{error}, figure3") from None
    if args.out is None:
        args.out = Path("runs") / ((made.runs_of or made.name) + (f"-{args.epochs}-epochs" if args.epochs else ""))
    asked = asked_for(args, args.out)
    join_folder(args.out, asked)  # refused before anything is loaded or written
    finished = finished_runs(args.out)  # a damaged one is found before anything is written
    if args.dry_run:
        show_plan(asked, {run.config.key for run in finished}, args.out)
        return
    train_grid(asked, finished, args)


def show_plan(asked: "Reproduction", done: set[str], out: Path) -> None:
    """Prints every row that would be trained, with its setting, and how much of it is there."""
    from dropact.cli.terminal import plain_console
    from dropact.experiments.methods import label
    from dropact.experiments.recipes import recipe
    from dropact.report.captions import setting_sentence

    console = plain_console()
    made = recipe(asked.recipe)
    for name, comparison in asked.rows.items():
        configs = comparison.configs()
        finished = sum(config.key in done for config in configs)
        methods = ", ".join(map(label, comparison.methods))
        console.print(f"{made.row(name).label} ({name}), {len(configs)} runs, {finished} finished: {methods}")
        console.print(f"    {setting_sentence(comparison.setting, comparison.seeds)}")
        for note in made.row(name).notes:
            console.print(f"    Note: {note}")
    total = asked.configs()
    left = sum(config.key not in done for config in total)
    console.print(f"{left} of {len(total)} runs to train, into {out}. Nothing was trained or written.")
