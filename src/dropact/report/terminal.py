"""The report on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dropact.report import grids
from dropact.report.captions import LEGEND, all_seeds, setting_sentence
from dropact.report.tables import Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Drawn


def show(report: Report, console: "Console") -> None:
    """Prints the paper's table with ours beside it, if there is one, and every table with its notes."""
    from rich.markup import escape

    overview = grids.of_paper(report)
    if overview is not None:
        console.print(drawn(overview, report.title))
    elif report.paper is not None:
        console.print(f"[bold]{escape(report.title)}[/bold]", highlight=False)
    for table in report.tables:
        console.print(drawn(grids.of_methods(table), table.title))
        console.print(escape(setting_sentence(table.setting, all_seeds(table))), highlight=False)
        _notes(table.notes, console)
    _notes(report.notes, console)
    console.print(escape(LEGEND), style="dim", highlight=False)


def drawn(grid: grids.Grid, title: str | None = None, caption: str | None = None) -> "Drawn":
    """A grid as rich draws it; what comes from files is no markup."""
    from rich.markup import escape
    from rich.table import Table as Drawn

    table = Drawn(title=title and escape(title), title_justify="left", caption=caption and escape(caption))
    table.caption_justify = "left"
    for heading, words in zip(grid.headings, grid.in_words, strict=True):
        lines = heading.replace(", ", ",\n").replace(" (", "\n(")
        table.add_column(escape(lines), justify="left" if words else "right")
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table


def _notes(notes: Sequence[str], console: "Console") -> None:
    from rich.markup import escape

    for note in notes:
        console.print(f"[bold]Note:[/bold] {escape(note)}", highlight=False)
