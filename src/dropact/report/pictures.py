"""Which pictures stand under a table of the page, and where there are too many of them to be drawn."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from dropact.report import budgets, figure2, figure6
from dropact.report.figures import curves, forest
from dropact.report.tables import Table

# Beyond these the page would be too heavy to open, and a picture could not be read.
TABLES, LINES = 24, 14


class Picture(NamedTuple):
    """An `<svg>` element; a wide one has a row of the page to itself."""

    svg: str
    wide: bool = False


# What draws a table, or None where it has nothing to show, in the order of the page, by what the ids in it begin with;
# a picture is one more entry.
PICTURES: dict[str, Callable[[Table, str], str | None]] = {
    "budget": budgets.picture,
    "keep": figure2.picture,
    "forest": forest,
    "test": partial(curves, field="test_error", what="Test error"),
    "train": partial(curves, field="train_error", what="Train error while training"),
    "shift": figure6.picture,
}
WIDE = ("budget", "keep")


def of_table(table: Table, number: int) -> list[Picture]:
    """The drawings of the table that is the `number`-th of its page, from 1."""
    if number > TABLES or len(table.rows) > LINES:
        return []
    drawn = {name: draw(table, f"{name}{number}") for name, draw in PICTURES.items()}
    return [Picture(svg, name in WIDE) for name, svg in drawn.items() if svg]


def left_out(table: Table, number: int) -> list[str]:
    """Why the table has no pictures, if it has none."""
    if len(table.rows) > LINES:
        return [f"No pictures: {len(table.rows)} lines cannot be told apart in one."]
    if number == TABLES + 1:
        return [f"No pictures from here on: those of more than {TABLES} tables would make the page too heavy."]
    return []
