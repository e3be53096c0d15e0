"""Which pictures stand under a table of the page, and where there are too many of them to be drawn."""

from dataclasses import dataclass

from dropact.report import budgets, figure2, figure6
from dropact.report.figures import curves, forest
from dropact.report.tables import Table

# Beyond these the page would be too heavy to open, and a picture could not be read.
TABLES, LINES = 24, 14


@dataclass(frozen=True)
class Picture:
    """An `<svg>` element; a wide one has a row of the page to itself."""

    svg: str
    wide: bool = False


def of_table(table: Table, number: int) -> list[Picture]:
    """The drawings of the table that is the `number`-th of its page, from 1."""
    if number > TABLES or len(table.rows) > LINES:
        return []
    drawn = [
        forest(table, f"forest{number}"),
        curves(table, f"test{number}", "test_error", "Test error"),
        curves(table, f"train{number}", "train_error", "Train error while training"),
        figure6.picture(table, f"shift{number}"),
    ]
    found = [Picture(svg) for svg in drawn if svg]
    for first in (figure2.picture(table, f"keep{number}"), budgets.picture(table, f"budget{number}")):
        if first:
            found.insert(0, Picture(first, wide=True))
    return found


def left_out(table: Table, number: int) -> list[str]:
    """Why the table has no pictures, if it has none."""
    if len(table.rows) > LINES:
        return [f"No pictures: {len(table.rows)} lines cannot be told apart in one."]
    if number == TABLES + 1:
        return [f"No pictures from here on: those of more than {TABLES} tables would make the page too heavy."]
    return []
