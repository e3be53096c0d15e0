"""Figure 6: the variance shift at the output of a module over the course of training, in the paper's form."""

from collections.abc import Mapping

from dropact.experiments.statistics import Summary, paired_difference, summarise
from dropact.report.captions import signed_interval, with_interval
from dropact.report.figures import short_label
from dropact.report.marks import PANEL, band, cut, legend, style_of, thinned
from dropact.report.svg import INK, canvas, render
from dropact.report.tables import MethodResult, Table


def _by_seed(row: MethodResult, site: str) -> dict[int, dict[int, float]]:
    """The ratio by step and seed, at the steps at which every seed has one.

    Step 0 is left out: BatchNorm has seen no batch, and evaluation uses the 0 and 1 that its statistics begin with.
    """
    seeds = {
        seed: {
            reading["step"]: shift
            for reading in run.readings
            if reading["site"] == site and (shift := reading["variance_shift"]) is not None
        }
        for seed, run in row.runs.items()
    }
    common = (step for step in next(iter(seeds.values())) if all(step in values for values in seeds.values()))
    return {step: {seed: values[step] for seed, values in seeds.items()} for step in common if step > 0}


def series(row: MethodResult, site: str) -> Mapping[int, Summary]:
    """The ratio over the seeds by step, from the first step on; steps at which a seed has none are left out."""
    found = _by_seed(row, site)
    steps = list(found)
    return {steps[i]: summarise(list(found[steps[i]].values())) for i in thinned(len(steps))} if steps else {}


def _unsigned(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def sentences(table: Table) -> list[str]:
    """Of each module the ratio at the first and the last reading, and there its difference to the baseline by seed."""
    said = []
    for site in table.setting["recorded"]:
        found = {row.label: _by_seed(row, site) for row in table.rows}
        for row in table.rows:
            if not (by_seed := found[row.label]):
                continue
            first, last = min(by_seed), max(by_seed)
            start, end = (with_interval(summarise(list(by_seed[step].values())), _unsigned) for step in (first, last))
            words = (
                f"{row.label}, Var(test) / Var(train) after {site}: {start} at step {first:,}, {end} at step {last:,}"
            )
            beside = found.get(row.reference or "", {}).get(last, {})
            difference = paired_difference(by_seed[last], beside)
            said.append(words + (f", {signed_interval(difference, 3)} to {row.reference}." if difference else "."))
    return said


def picture(table: Table, name: str) -> str | None:
    """Mean ratio with a band of the 95 % t-interval, one line per method and module; None where nothing is recorded."""
    sites = table.setting["recorded"]
    found = {(row.label, site): series(row, site) for row in table.rows for site in sites}
    if not any(found.values()):
        return None
    with canvas(*PANEL) as figure:
        axes = figure.subplots()
        axes.axhline(1, color=INK, linewidth=0.8)
        ends = []
        for row in table.rows:
            for site in sites:
                if not (points := found[row.label, site]):
                    continue
                label = short_label(row, table) + (f", {site}" if len(sites) > 1 else "")
                band(axes, points, style_of(row, table.rows), label)
                last, end = list(points.items())[-1]
                ends.append(f"{row.label} at {site}: {end.mean:.3f} at step {last:,}")
        # The first steps would flatten the rest: the axis ends at 2, or at twice the largest mean at the end.
        low, high = axes.get_ylim()
        top = 2 * max(1.0, *(list(points.values())[-1].mean for points in found.values() if points))
        cut(axes, max(low, 0.0), min(high, top))
        axes.set_xlabel("Training step")
        axes.set_ylabel(f"Var(test) / Var(train), {', '.join(sites)}")
        legend(figure)
        return render(
            figure,
            name,
            f"Variance shift during training, as in the paper's Figure 6: {table.title}",
            "Variance in evaluation over variance in training, mean over the channels; mean over the seeds, shaded: "
            f"95 % interval; the axis is cut at {axes.get_ylim()[1]:.1f}, and step 0, before BatchNorm has seen a "
            f"batch, not drawn. {'; '.join(ends)}.",
        )
