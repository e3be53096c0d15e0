"""The report on a terminal."""

from typing import TYPE_CHECKING

from dropact.report.collect import Report
from dropact.report.words import HEADINGS, LEGEND, all_seeds, cells, setting_sentence

if TYPE_CHECKING:
    from rich.console import Console


def show(report: Report, console: "Console") -> None:
    """Prints every table with its notes."""
    from rich.markup import escape
    from rich.table import Table as Grid

    for table in report.tables:
        grid = Grid(title=escape(table.title), title_justify="left")
        for heading in HEADINGS:
            grid.add_column(heading.replace(" (", "\n("), justify="left" if heading == HEADINGS[0] else "right")
        for row in table.rows:
            grid.add_row(*(escape(cell) for cell in cells(row)))
        console.print(grid)
        console.print(escape(setting_sentence(table.setting, all_seeds(table))), highlight=False)
        for note in table.notes:
            console.print(f"[bold]Note:[/bold] {escape(note)}", highlight=False)
    for note in report.notes:
        console.print(f"[bold]Note:[/bold] {escape(note)}", highlight=False)
    console.print(escape(LEGEND), style="dim", highlight=False)
