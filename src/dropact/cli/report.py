"""`dropact report`: the report of a folder of runs, without training."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.cli.options import require_extras
from dropact.cli.parser import add_verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dropact.experiments.records import Run

DESCRIPTION = """\
Reads the finished runs in DIR/runs, prints the table, and writes table.md, table.csv, report.html and comparison.svg
into DIR. Runs of different settings get a table each. The folder of `dropact reproduce figure3` gets its own picture.
Of a DIR that holds several such folders each is reported on, and index.html says what all of them show.
"""


def add_parser(verbs: Any) -> None:
    parser = add_verb(verbs, "report", "table and page of finished runs", DESCRIPTION, run)
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="the --out of compare, reproduce or train, or a folder of such"
    )


def run(args: argparse.Namespace) -> None:
    require_extras()
    report_on(args.folder)


def report_on(folder: Path, known: "Sequence[Run]" = ()) -> None:
    """Writes the report of a folder of runs, of Figure 3, or of all such folders in it, and shows it.

    Args:
        known: runs that have been read already.
    """
    from dropact.cli.terminal import plain_console, wide_console
    from dropact.experiments.errors import NoRunsError
    from dropact.experiments.recipes import figure3
    from dropact.report import collect, index, show, write_report
    from dropact.report.write import write_texts

    if below := index.studies_in(folder):
        for study in below:
            try:
                report_on(study)
            except NoRunsError:  # the others have something to say
                plain_console().print(f"{study}: no finished run yet")
        write_texts({index.PAGE: index.index(folder)}, folder)
        plain_console().print(f"All of them: {folder / index.PAGE}")
        return
    if (folder / figure3.FILE).is_file():
        report_on_figure3(folder)
        return
    report = collect(folder, known)
    written = write_report(report, folder)
    console = wide_console()
    show(report, console)
    console.print("Written: " + ", ".join(map(str, written)), soft_wrap=True, markup=False, highlight=False)


def report_on_figure3(folder: Path) -> None:
    """Writes the report of the two regressions into their folder and shows what they say."""
    from dropact.cli.terminal import plain_console
    from dropact.report.figure3 import read_study, write_figure3

    study = read_study(folder)
    written = write_figure3(study, folder)
    console = plain_console()
    for line in study.sentences():
        console.print(line)
    console.print("Written: " + ", ".join(map(str, written)))
