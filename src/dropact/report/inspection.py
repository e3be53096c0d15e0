"""An inspection on the terminal and as one page."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropact.diagnostics import Inspection
from dropact.report.grids import Grid
from dropact.report.page import bullets, document, html_table
from dropact.report.terminal import drawn
from dropact.report.write import write_texts

if TYPE_CHECKING:
    from rich.console import Console

LEGEND = (
    "Shift: variance in evaluation over variance in training, per channel and then averaged. Predicted: for "
    "independent N(0, 1) inputs (equation 15 of arXiv:1811.05850). Alone: what the layer makes of the inputs it has. "
    "Measured: between the two modes of the whole network. Slope: outputs over inputs, where these are below 0, in "
    "training. Dead: channels with no input above 0."
)


def grid(found: Inspection) -> Grid:
    """One line per layer; a column that has nothing to say is left out."""
    rates = any("drop_rate" in layer.values for layer in found.layers)
    recalibrated = any(layer.recalibrated is not None for layer in found.layers)
    headings = ["Layer", "Shift, predicted", "Shift, alone", "Shift, measured"]
    headings += ["Shift, BatchNorm recalibrated"] * recalibrated + ["Dropped (%)"] * rates
    headings += ["Slope", "Below 0 (%)", "Dead (%)"]
    rows = []
    for layer in found.layers:
        row = [layer.name, *(_ratio(value) for value in (layer.predicted, layer.alone, layer.measured))]
        row += [_ratio(layer.recalibrated)] * recalibrated + [_percent(layer.values.get("drop_rate"))] * rates
        row += [_ratio(layer.values["effective_slope"])]
        row += [_percent(layer.values[name]) for name in ("negative_share", "dead_units")]
        rows.append(row)
    return Grid(headings, rows)


def _ratio(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.1f}"


def summary(found: Inspection) -> list[str]:
    """What holds for the whole network."""
    return [
        f"{str(found.coverage).partition(chr(10))[0]}.",
        f"The output in training differs from that in evaluation by {_percent(found.output_gap)} % (root mean square).",
    ]


def show_inspection(found: Inspection, title: str, console: "Console") -> None:
    """Prints the table, what holds for the whole, and what to do."""
    from rich.markup import escape

    console.print(drawn(grid(found), title))
    for sentence in summary(found):
        console.print(escape(sentence), highlight=False)
    for sentence in found.recommendations:
        console.print(f"[bold]→[/bold] {escape(sentence)}", highlight=False)
    console.print(escape(LEGEND), style="dim", highlight=False)


def write_inspection(found: Inspection, title: str, environment: Mapping[str, Any], path: Path) -> None:
    """The page.

    Raises:
        RecordError: the folder cannot be written.
    """
    body = (
        bullets(summary(found))
        + "<section>\n<h2>What to do</h2>\n"
        + bullets(found.recommendations, "notes")
        + "</section>\n<section>\n<h2>Layers</h2>\n"
        + html_table(grid(found), LEGEND)
        + "</section>\n"
    )
    write_texts({path.name: document(title, body, [environment])}, path.parent)
