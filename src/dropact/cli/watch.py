"""`dropact watch`: how far the runs of a folder have come, while others train them."""

import argparse
import time
from pathlib import Path
from typing import Any

from dropact.cli.options import require_extras
from dropact.cli.parser import add_verb, seconds

DESCRIPTION = """\
Shows what is finished, what is at hand and what is left of the runs in DIR, while compare, train or reproduce train
them in other processes, until all are finished or have diverged. It reads files and nothing else: any number may
watch, from any machine that sees the folder. Where the output is not a terminal it is shown once.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "watch", "a grid of runs while they are trained", DESCRIPTION, run)
    parser.add_argument("folder", metavar="DIR", type=Path, help="the --out of compare, train or reproduce")
    parser.add_argument("--every", type=seconds, default=2.0, metavar="N", help="seconds between two looks (2)")
    parser.add_argument("--once", action="store_true", help="show it once and leave")


def run(args: argparse.Namespace) -> None:
    require_extras()
    from rich.console import Console
    from rich.live import Live

    from dropact.experiments.progress import ENDED, progress_of
    from dropact.report.progress import drawn

    console = Console()
    found = progress_of(args.folder)
    if args.once or not console.is_terminal:
        console.print(drawn(found))
        return
    try:
        with Live(drawn(found), console=console, auto_refresh=False) as live:
            while any(each.state not in ENDED for each in found):
                time.sleep(args.every)
                found = progress_of(args.folder)
                live.update(drawn(found), refresh=True)
    except KeyboardInterrupt:  # the watcher leaves; what it watched goes on
        return
