"""`dropact verify`: recorded runs, trained once more."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.cli.options import command_line, require_extras
from dropact.cli.parser import UsageError, add_verb

if TYPE_CHECKING:
    from rich.console import Console

    from dropact.experiments.verification import Verdict

DESCRIPTION = """\
Trains some of the finished runs in DIR/runs again, by their own configs, with as many threads and on such a device as
then, and compares all metrics of all epochs. In the same environment they must be the same to the last bit. With other
versions or another processor the test error may differ by what two seeds of that method do in 999 of 1,000 cases.

Exit status 1 where one does not hold. DIR is not written to. What was trained is kept in --out; without it, it is not.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "verify", "train recorded runs again and compare", DESCRIPTION, run)
    parser.add_argument("folder", metavar="DIR", type=Path, help="the --out of compare, reproduce or train")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="how many, evenly from the first to last (3)")
    parser.add_argument("--data", type=Path, help="folder of NAME.npz (DROPACT_DATA, else the cache folder)")
    parser.add_argument("--out", type=Path, help="folder for the new runs; the same command goes on in it")


def run(args: argparse.Namespace) -> None:
    args.goes_on = args.out is not None
    require_extras()
    from dropact.cli.progress import Bars
    from dropact.cli.terminal import plain_console
    from dropact.experiments.comparison import check_run_folder
    from dropact.experiments.data import load_dataset
    from dropact.experiments.verification import chosen, verify

    runs = chosen(args.folder, args.runs)
    if args.out is not None:
        if args.out.resolve() == args.folder.resolve():
            raise UsageError(f"--out: got {args.out}, accepted: another folder than that of the runs")
        check_run_folder(args.out)
    console = plain_console()
    verdicts: list[Verdict] = []
    with ExitStack() as stack:
        out = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(lambda: _show(verdicts, console))  # also where it stops
        bars = stack.enter_context(Bars([found.config for found in runs]))
        for found in runs:
            data = load_dataset(found.config.dataset, args.data)
            verdicts.append(verify(found, args.folder, data, out, bars, command_line(args)))
    failed = [verdict for verdict in verdicts if not verdict.holds]
    console.print(f"{len(verdicts) - len(failed)} of {len(verdicts)} runs hold")
    if failed:
        sys.exit(1)


def _show(verdicts: "Sequence[Verdict]", console: "Console") -> None:
    for verdict in verdicts:
        console.print(verdict.sentence())
