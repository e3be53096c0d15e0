"""Which pictures stand under a table of the page, and where there are too many of them to be drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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


@dataclass(frozen=True)
class Drawing:
    """What draws a table as an `<svg>` whose ids begin with a name; None where it has nothing to show."""

    of: Callable[[Table, str], str | None]
    wide: bool = False


# In the order of the page, by what the ids in them begin with; a picture is one more entry.
PICTURES: dict[str, Drawing] = {
    "budget": Drawing(budgets.picture, wide=True),
    "keep": Drawing(figure2.picture, wide=True),
    "forest": Drawing(forest),
    "test": Drawing(partial(curves, field="test_error", what="Test error")),
    "train": Drawing(partial(curves, field="train_error", what="Train error while training")),
    "shift": Drawing(figure6.picture),
}


def of_table(table: Table, number: int) -> list[Picture]:
    """The drawings of the table that is the `number`-th of its page, from 1."""
    if number > TABLES or len(table.rows) > LINES:
        return []
    drawn = [(drawing.of(table, f"{name}{number}"), drawing.wide) for name, drawing in PICTURES.items()]
    return [Picture(svg, wide) for svg, wide in drawn if svg]


def left_out(table: Table, number: int) -> list[str]:
    """Why the table has no pictures, if it has none."""
    if len(table.rows) > LINES:
        return [f"No pictures: {len(table.rows)} lines cannot be told apart in one."]
    if number == TABLES + 1:
        return [f"No pictures from here on: those of more than {TABLES} tables would make the page too heavy."]
    return []
