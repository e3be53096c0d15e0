"""The plots of one table: learning curves, differences to the baseline, and both results side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from dropact.experiments.config import schedule_mark
from dropact.experiments.methods import METHODS, label
from dropact.experiments.statistics import Summary, summarise
from dropact.report.captions import difference, mean_and_interval
from dropact.report.svg import INK, SETTINGS, render
from dropact.report.tables import MethodResult, Table, baseline_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's colours, told apart by colour-blind readers; the three darkest first, as lines on white need them.
COLOURS = (INK, "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", (0, (5, 1)), ":", (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DRAWN = 120  # points of a line
PANEL = (4.7, 3.1)  # inches of 72 units: the width of a phone, so that text is not scaled down there


def short_label(row: MethodResult, table: Table) -> str:
    """What a legend calls it: the label without the options where that leaves no doubt."""
    if row.short:
        return row.short
    methods = [other.method for other in table.rows]
    return label(row.method, table.setting["network"]) if methods.count(row.method) == 1 else row.label


def style_of(row: MethodResult, rows: Sequence[MethodResult]) -> dict[str, Any]:
    """The same colour for one of the first methods in every report, unless a table has others, or one twice."""
    methods = {other.method for other in rows}
    simple = len(methods) == len(rows) and methods <= set(list(METHODS)[: len(COLOURS)])
    place = list(METHODS).index(row.method) if simple else rows.index(row)
    again = place // len(COLOURS)  # the second time round a colour has another dash and marker
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[(place + again) % len(DASHES)],
        "marker": MARKERS[(place + again) % len(MARKERS)],
    }


def thinned(length: int) -> list[int]:
    """At most `DRAWN` places from 0 to length − 1, evenly, with the first and the last: a line has no more pixels."""
    last = min(length, DRAWN) - 1
    return [round(place * (length - 1) / last) for place in range(last + 1)] if last else [0]


def new_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def band(axes: "Axes", x: Sequence[float], summaries: Sequence[Summary], style: Mapping[str, Any], label: str) -> None:
    """A line through the means, and around it the 95 % t-intervals."""
    axes.plot(
        x,
        [summary.mean for summary in summaries],
        color=style["color"],
        linestyle=style["linestyle"],
        linewidth=1.6,
        label=label,
    )
    axes.fill_between(
        x,
        [summary.mean if summary.low is None else summary.low for summary in summaries],
        [summary.mean if summary.high is None else summary.high for summary in summaries],
        color=style["color"],
        alpha=0.15,
        linewidth=0,
    )


def curves(table: Table, name: str, field: str, what: str) -> str:
    """Mean of `field` over the seeds against the epoch, with a band of the 95 % t-interval, one line per method."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    metrics: list[list[list[Mapping[str, Any]]]] = [[[*run.metrics] for run in row.runs.values()] for row in table.rows]
    shown = [place for place, record in enumerate(metrics[0][0]) if record[field] is not None]
    places = [shown[place] for place in thinned(len(shown))]
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(*PANEL)
        axes = figure.subplots()
        final = []
        for row, runs in zip(table.rows, metrics, strict=True):
            summaries = [summarise([run[place][field] for run in runs]) for place in places]
            named = short_label(row, table)
            band(axes, [place + 1 for place in places], summaries, style_of(row, table.rows), named)
            final.append(f"{row.label} {summaries[-1].mean:.2f} %")
        # The first epochs would flatten the rest: the axis ends at four times the largest final test error.
        top = max(4 * max(row.test.mean for row in table.rows), 1.0)
        axes.set_ylim(0, min(top, max(axes.get_ylim()[1], 1.0)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("Epoch")
        axes.set_ylabel(f"{what} (%)")
        longest = max(len(short_label(row, table)) for row in table.rows)
        figure.legend(loc="outside upper left", ncols=2 if longest < 30 else 1, fontsize=9)
        return render(
            figure,
            name,
            f"{what} over the epochs: {table.title}",
            f"Mean over the seeds, shaded: 95 % interval; the axis is cut at {axes.get_ylim()[1]:.0f} %. "
            f"At the last epoch: {'; '.join(final)}.",
        )


def _forest(axes: "Axes", rows: Sequence[MethodResult], table: Table) -> None:
    references = {row.reference for row in rows if row.reference}
    against = "baseline" if references <= baseline_labels(table) else "what it is added to"
    axes.axvline(0, color=INK, linewidth=0.8)
    for height, row in enumerate(rows):
        found = row.difference
        if found is None:
            continue
        style = style_of(row, table.rows)
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [height, height], color=style["color"], linewidth=2)
        axes.plot(found.mean, height, marker=style["marker"], color=style["color"], markersize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"Test error minus {against} (points)\n← better\u2003\u2003\u2003worse →")
    axes.margins(x=0.12)


def _differences(rows: Sequence[MethodResult]) -> str:
    return "; ".join(f"{row.label} {difference(row)}" for row in rows)


def forest(table: Table, name: str) -> str | None:
    """Difference of every method with its 95 % interval; None where there is no difference."""
    import matplotlib

    rows = [row for row in table.rows if row.difference is not None]
    if not rows:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(PANEL[0], 1.3 + 0.5 * len(rows))
        axes = figure.subplots()
        _forest(axes, rows, table)
        axes.set_yticks(range(len(rows)), [row.short or row.label.replace(" (", "\n(") for row in rows])
        return render(
            figure,
            name,
            f"Difference to the baseline: {table.title}",
            f"Paired by seed, with 95 % intervals, in points of test error: {_differences(rows)}.",
        )


def overview(table: Table, name: str) -> str:
    """Test error of every run with mean and interval, and beside it the differences to the baseline."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(10.4, 1.4 + 0.45 * len(table.rows))
        cast("ConstrainedLayoutEngine", figure.get_layout_engine()).set(w_pad=0.15, h_pad=0.12, wspace=0.05)
        left, right = figure.subplots(1, 2, sharey=True)
        for height, row in enumerate(table.rows):
            style = style_of(row, table.rows)
            errors = [run.result["test_error"] for run in row.runs.values()]
            left.scatter(errors, [height + 0.16] * len(errors), s=14, color=style["color"], alpha=0.6, linewidth=0)
            if row.test.low is not None and row.test.high is not None:
                left.plot([row.test.low, row.test.high], [height - 0.1] * 2, color=style["color"], linewidth=2)
            left.plot(row.test.mean, height - 0.1, marker=style["marker"], color=style["color"], markersize=7)
        left.set_yticks(range(len(table.rows)), [row.label for row in table.rows])
        left.set_xlabel("Test error, last epoch (%)\nmean, 95 % interval, and every seed")
        if mark := schedule_mark(table.setting):
            figure.suptitle(f"Schedule {mark}", fontsize=10)
        _forest(right, table.rows, table)
        right.tick_params(left=False)
        errors_text = "; ".join(f"{row.label} {mean_and_interval(row.test)} %" for row in table.rows)
        rows = [row for row in table.rows if row.difference is not None]
        return render(
            figure,
            name,
            f"Test error and difference to the baseline: {table.title}",
            f"Test error of the last epoch: {errors_text}. Paired difference to the baseline: "
            f"{_differences(rows) or 'none'}.",
        )
