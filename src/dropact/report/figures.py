"""The plots of one table: learning curves, differences to the baseline, and both results side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from dropact.experiments.config import schedule_mark
from dropact.experiments.methods import label
from dropact.experiments.statistics import summarise
from dropact.report.captions import difference, mean_and_interval
from dropact.report.marks import PANEL, against_zero, band, cut, interval, legend, style_of, thinned
from dropact.report.svg import canvas, render
from dropact.report.tables import MethodResult, Table, baseline_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.layout_engine import ConstrainedLayoutEngine


def short_label(row: MethodResult, table: Table) -> str:
    """What a legend calls it: the label without the options where that leaves no doubt."""
    if row.short:
        return row.short
    methods = [other.method for other in table.rows]
    return label(row.method, table.setting["network"]) if methods.count(row.method) == 1 else row.label


def curves(table: Table, name: str, field: str, what: str) -> str:
    """Mean of `field` over the seeds against the epoch, with a band of the 95 % t-interval, one line per method."""
    from matplotlib.ticker import MaxNLocator

    metrics: list[list[list[Mapping[str, Any]]]] = [[[*run.metrics] for run in row.runs.values()] for row in table.rows]
    shown = [place for place, record in enumerate(metrics[0][0]) if record[field] is not None]
    places = [shown[place] for place in thinned(len(shown))]
    with canvas(*PANEL) as figure:
        axes = figure.subplots()
        final = []
        for row, runs in zip(table.rows, metrics, strict=True):
            found = {place + 1: summarise([run[place][field] for run in runs]) for place in places}
            band(axes, found, style_of(row, table.rows), short_label(row, table))
            final.append(f"{row.label} {found[places[-1] + 1].mean:.2f} %")
        # The first epochs would flatten the rest: the axis ends at four times the largest final test error.
        top = max(4 * max(row.test.mean for row in table.rows), 1.0)
        cut(axes, 0, min(top, max(axes.get_ylim()[1], 1.0)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("Epoch")
        axes.set_ylabel(f"{what} (%)")
        legend(figure)
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
    against_zero(axes, len(rows), f"Test error minus {against} (points)")
    for height, row in enumerate(rows):
        if row.difference is not None:
            interval(axes, row.difference, height, style_of(row, table.rows))


def _differences(rows: Sequence[MethodResult]) -> str:
    return "; ".join(f"{row.label} {difference(row)}" for row in rows)


def _in_two(label: str) -> str:
    return label.replace(" (", "\n(") if ": " not in label else label.replace(": ", ":\n")


def forest(table: Table, name: str) -> str | None:
    """Difference of every method with its 95 % interval; None where there is no difference."""
    rows = [row for row in table.rows if row.difference is not None]
    if not rows:
        return None
    with canvas(PANEL[0], 1.3 + 0.5 * len(rows)) as figure:
        axes = figure.subplots()
        _forest(axes, rows, table)
        axes.set_yticks(range(len(rows)), [_in_two(row.short or row.label) for row in rows])
        return render(
            figure,
            name,
            f"Difference to the baseline: {table.title}",
            f"Paired by seed, with 95 % intervals, in points of test error: {_differences(rows)}.",
        )


def overview(table: Table, name: str) -> str:
    """Test error of every run with mean and interval, and beside it the differences to the baseline."""
    with canvas(10.4, 1.4 + 0.45 * len(table.rows)) as figure:
        cast("ConstrainedLayoutEngine", figure.get_layout_engine()).set(w_pad=0.15, h_pad=0.12, wspace=0.05)
        left, right = figure.subplots(1, 2, sharey=True)
        for height, row in enumerate(table.rows):
            interval(left, row.test, height - 0.1, style_of(row, table.rows), list(row.errors.values()))
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
