"""What the pictures are drawn with: a style for each method, lines, points, intervals, legends, axes that are cut."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dropact.experiments.methods import METHODS
from dropact.experiments.statistics import Summary
from dropact.report.svg import INK
from dropact.report.tables import MethodResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; the three darkest first, as lines on white need them.
COLOURS = (INK, "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", (0, (5, 1)), ":", (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SWEEP = (0.3, 0.8)  # of viridis: the part that is seen on white and on black
DRAWN = 120  # points of a line
PANEL = (4.7, 3.1)  # inches of 72 units: the width of a phone, so that text is not scaled down there
Style = Mapping[str, Any]


def style_of(row: MethodResult, rows: Sequence[MethodResult]) -> Style:
    """Colour, dash and marker: the same for one of the first methods in every report, unless a table has others.

    Where a method stands with several values of its options, the colour is that of the value, in order, and dash and
    marker are those of the method.
    """
    methods = list(dict.fromkeys(other.method for other in rows))
    known = list(METHODS)[: len(COLOURS)]
    place = known.index(row.method) if set(methods) <= set(known) else methods.index(row.method)
    again = place // len(COLOURS)  # the second time round a colour has another dash and marker
    style: dict[str, Any] = {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[(place + again) % len(DASHES)],
        "marker": MARKERS[(place + again) % len(MARKERS)],
    }
    values = {other.label: tuple(other.config.options.values()) for other in rows if _is_swept(other, rows)}
    if row.label in values:
        import matplotlib

        ranked = sorted(set(values.values()))
        first, last = SWEEP
        share = ranked.index(values[row.label]) / max(len(ranked) - 1, 1)
        style["color"] = matplotlib.colormaps["viridis"](first + (last - first) * share)
    return style


def _is_swept(row: MethodResult, rows: Sequence[MethodResult]) -> bool:
    return sum(other.method == row.method for other in rows) > 1


def thinned(length: int) -> list[int]:
    """At most `DRAWN` places from 0 to length − 1, evenly, with the first and the last: a line has no more pixels."""
    last = min(length, DRAWN) - 1
    return [round(place * (length - 1) / last) for place in range(last + 1)] if last else [0]


def band(axes: "Axes", found: Mapping[int, Summary], style: Style, label: str) -> None:
    """A line through the means, and around it the 95 % t-intervals."""
    axes.plot(
        list(found),
        [summary.mean for summary in found.values()],
        color=style["color"],
        linestyle=style["linestyle"],
        linewidth=1.6,
        label=label,
    )
    axes.fill_between(
        list(found),
        [summary.mean if summary.low is None else summary.low for summary in found.values()],
        [summary.mean if summary.high is None else summary.high for summary in found.values()],
        color=style["color"],
        alpha=0.15,
        linewidth=0,
    )


def points(axes: "Axes", found: Mapping[float, Summary], style: Style, label: str) -> None:
    """Means with their 95 % t-intervals, joined by a line."""
    axes.errorbar(
        list(found),
        [summary.mean for summary in found.values()],
        yerr=[summary.half_width or 0.0 for summary in found.values()],
        **{"marker": "o", **style},
        markersize=4,
        linewidth=1.4,
        capsize=3,
        label=label,
    )


def interval(axes: "Axes", found: Summary, height: float, style: Style, every: Sequence[float] = ()) -> None:
    """A mean with its 95 % t-interval, across; above it `every` value that it is of, if they are given."""
    if every:
        axes.scatter(every, [height + 0.26] * len(every), s=14, color=style["color"], alpha=0.6, linewidth=0)
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [height] * 2, color=style["color"], linewidth=2)
    axes.plot(found.mean, height, marker=style["marker"], color=style["color"], markersize=7)


def against_zero(axes: "Axes", rows: int, what: str) -> None:
    """Axes of differences, one in each of so many rows from above."""
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlabel(f"{what}\n← better\u2003\u2003\u2003worse →")
    axes.margins(x=0.12)


def cut(axes: "Axes", low: float, high: float) -> None:
    """Ends the upright axis at `low` and `high`, and says so where there is more above."""
    beyond = axes.get_ylim()[1] > high
    axes.set_ylim(low, high)
    if beyond:
        words = f"↑ cut at {high:.3g}"
        axes.text(1, 1, words, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=INK)


def legend(figure: "Figure", columns: int | None = None) -> None:
    """Above the axes, which keep their height however many lines it has."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if not labels:
        return
    columns = columns or (2 if max(map(len, labels)) < 30 else 1)
    lines = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.203 * max(lines - 2, 0))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=9)
