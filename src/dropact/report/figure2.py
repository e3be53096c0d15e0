"""Figure 2: test error against the probability of keeping the nonlinearity, in the paper's form, and train error."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dropact.experiments.statistics import Summary
from dropact.report.captions import mean_and_interval
from dropact.report.figures import new_figure
from dropact.report.svg import INK, SETTINGS, render
from dropact.report.tables import BASELINE, MethodResult, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHOD, LEAST = "drop-activation", 3
COLOUR, RECOMPUTED_COLOUR = "#0072B2", "#D55E00"


def rows_by_keep(table: Table) -> dict[float, MethodResult]:
    """The rows by p (keep), ascending; plain ReLU is p = 1."""
    found = {}
    for row in table.rows:
        config = next(iter(row.runs.values())).config
        if config.method == METHOD:
            found[1 - config.options["drop_prob"]] = row
        elif config.method == BASELINE:
            found[1.0] = row
    return dict(sorted(found.items()))


def points(table: Table) -> dict[float, Summary]:
    """Test error by p (keep)."""
    return {keep: row.test for keep, row in rows_by_keep(table).items()}


def _series(axes: "Axes", found: Mapping[float, Summary], colour: str, line: str, label: str) -> None:
    axes.errorbar(
        list(found),
        [summary.mean for summary in found.values()],
        yerr=[summary.half_width or 0.0 for summary in found.values()],
        color=colour,
        linestyle=line,
        marker="o",
        markersize=4,
        linewidth=1.4,
        capsize=3,
        label=label,
    )


def picture(table: Table, name: str) -> str | None:
    """Means with 95 % intervals; None where there are fewer than three values of p."""
    import matplotlib

    rows = rows_by_keep(table)
    if len(rows) < LEAST:
        return None
    found = points(table)
    again = {keep: row.recalibrated for keep, row in rows.items() if row.recalibrated is not None}
    best = min(found, key=lambda keep: found[keep].mean)
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(5.2, 4.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        _series(above, found, COLOUR, "-", "as trained")
        if again:
            _series(above, again, RECOMPUTED_COLOUR, "--", "BatchNorm recomputed")
            above.legend()
        above.plot(best, found[best].mean, marker="D", markersize=9, color="none", markeredgecolor=INK)
        above.set_ylabel("Test error, last epoch (%)")
        _series(below, {keep: row.train for keep, row in rows.items()}, INK, "-", "train")
        below.set_ylabel("Train error (%)")
        below.set_xticks(list(found), [f"{keep:.2f}" for keep in found])
        below.set_xlabel("p (keep): probability of keeping the nonlinearity")
        listed = "; ".join(
            f"{keep:.2f}: {mean_and_interval(row.test)} %, train {mean_and_interval(row.train)} %"
            for keep, row in rows.items()
        )
        return render(
            figure,
            name,
            f"Test and train error against p (keep), as in the paper's Figure 2: {table.title}",
            f"Mean over the seeds with 95 % intervals, smallest mean at {best:.2f} (diamond). {listed}.",
        )
