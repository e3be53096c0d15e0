"""Figure 2: test error against the probability of keeping the nonlinearity, in the paper's form, and train error."""

from dropact.report.captions import mean_and_interval
from dropact.report.marks import points
from dropact.report.svg import INK, canvas, render
from dropact.report.tables import BASELINE, MethodResult, Table

METHOD, LEAST = "drop-activation", 3


def rows_by_keep(table: Table) -> dict[float, MethodResult]:
    """The rows by p (keep), ascending; plain ReLU is p = 1."""
    found = {1 - row.config.options["drop_prob"]: row for row in table.rows if row.method == METHOD}
    plain = [row for row in table.rows if row.method == BASELINE]
    return dict(sorted([*found.items(), *((1.0, row) for row in plain)]))


def picture(table: Table, name: str) -> str | None:
    """Means with 95 % intervals; None where there are fewer than three values of p."""
    rows = rows_by_keep(table)
    if len(rows) < LEAST:
        return None
    again = {keep: row.recalibrated for keep, row in rows.items() if row.recalibrated is not None}
    best = min(rows, key=lambda keep: rows[keep].test.mean)
    with canvas(5.2, 4.6) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        tested = {keep: row.test for keep, row in rows.items()}
        points(above, tested, {"color": "#0072B2", "linestyle": "-"}, "as trained")
        if again:
            points(above, again, {"color": "#D55E00", "linestyle": "--"}, "BatchNorm recomputed")
            above.legend()
        above.plot(best, rows[best].test.mean, marker="D", markersize=9, color="none", markeredgecolor=INK)
        above.set_ylabel("Test error, last epoch (%)")
        points(below, {keep: row.train for keep, row in rows.items()}, {"color": INK, "linestyle": "-"}, "train")
        below.set_ylabel("Train error (%)")
        below.set_xticks(list(rows), [f"{keep:.2f}" for keep in rows])
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
