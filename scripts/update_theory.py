"""Fills the tables of docs/theory.md and docs/errata.md from results/theory/simulation.json.

python scripts/update_theory.py            # rewrites the pages
python scripts/update_theory.py --check    # exit status 1 if a page is not what the record says
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from generated import ROOT, Pages, update

from dropact.experiments.statistics import Summary, paired_difference, summarise
from dropact.report.captions import mean_and_interval, probability, signed
from dropact.report.grids import Grid
from dropact.report.text import markdown_table

Rows = Sequence[Mapping[str, Any]]


def simulated(value: Sequence[float], digits: int = 3) -> str:
    """Mean and standard error."""
    return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"


def percent(ratio: float) -> str:
    return f"{100 * ratio:+.1f} %".replace("-", "−")


def property_51(rows: Rows) -> str:
    names = {"element": "one per unit (the method)", "sample": "one for the layer"}
    cells = [
        (
            f"{row['drop_prob']:g}",
            names[row["granularity"]],
            simulated(row["simulated"]),
            f"{row['formula']:.3f}",
            f"{row['printed']:.3f}",
            f"{(row['simulated'][0] - row['printed']) / row['simulated'][1]:+.1f}".replace("-", "−"),
        )
        for row in rows
    ]
    headings = ("drop_prob", "Masks", "Simulated", "`excess_loss`", "Printed", "Simulated − printed, in errors")
    return markdown_table(Grid(headings, cells)) + f"\n\n{rows[0]['draws']:,} draws each; ± one standard error."


def property_52(rows: Rows) -> str:
    cells = [
        (
            row["activation"],
            f"{row['formula']:.4f}",
            simulated(row["simulated"], 4),
            f"{row['worst_drop_prob']:.4f}",
            f"{row['worst']:.4f}",
        )
        for row in rows
    ]
    headings = ("Activation", "Shift at 0.05", "Simulated", "Worst drop_prob", "Shift there")
    return markdown_table(Grid(headings, cells)) + "\n\n4,000,000 inputs through the layer; ± one standard error."


def two_layers(rows: Rows) -> str:
    cells = []
    for row in rows:
        mean, error = row["simulated"]
        left_out = sum(row["remainder"])
        cells.append(
            (
                f"{row['width']}, {row['drop_prob']:g}",
                f"{row['width'] * row['drop_prob']:.3g}",
                f"{row['form']:.4f}",
                simulated(row["simulated"], 4),
                f"{percent(row['form'] / mean - 1)} ± {100 * error / mean:.1f}",
                percent(-left_out / (row["form"] + left_out)),
                f"{100 * sum(map(abs, row['remainder'])) / row['form']:.1f} %",
            )
        )
    headings = ("Width, drop_prob", "Product", "Form", "Simulated", "Error of the form", "Predicted", "Tolerance")
    return markdown_table(Grid(headings, cells))


def one_flip(rows: Rows) -> str:
    cells = [(str(row["width"]), str(row["networks"]), percent(row["form"] / row["exact"] - 1)) for row in rows]
    return markdown_table(Grid(("Width", "Networks", "Error of the form"), cells))


def skip(rows: Rows) -> str:
    cells = []
    for row in rows:
        mean, error = row["simulated"]
        name = "with a skip" if row["skip"] else "without"
        cells.append(
            (
                f"{name}, {row['drop_prob']:g}",
                f"{row['form']:.5f}",
                simulated(row["simulated"], 5),
                f"{percent(row['form'] / mean - 1)} ± {100 * error / mean:.1f}",
            )
        )
    return markdown_table(Grid(("Block, drop_prob", "Form", "Simulated", "Error of the form"), cells))


def real_networks(rows: Rows) -> str:
    cells = []
    for row in rows:
        mean, error = row["simulated"]
        cells.append(
            (
                f"{row['network']}, {row['drop_prob']:g}",
                f"{row['loss']:.4f}",
                f"{row['form']:.4f}",
                simulated(row["simulated"], 4),
                f"{percent(row['form'] / mean - 1)} ± {100 * error / mean:.0f}",
            )
        )
    headings = ("Network, drop_prob", "Test-time loss", "Excess, form", "Simulated", "Error of the form")
    return markdown_table(Grid(headings, cells))


def recalibration(rows: Rows) -> str:
    cells = []
    measures = (("Test error (%)", 2), ("Calibration error", 4), ("Log loss", 4))
    for q in sorted({row["drop_prob"] for row in rows}):
        own = [row for row in rows if row["drop_prob"] == q]
        for place, (name, digits) in enumerate(measures):
            trained = {row["seed"]: row["trained"][place] for row in own}
            cells.append(_compared(f"{q:g}", name, trained, own, place, digits))
    headings = ("drop_prob", "Measure", "As trained", "Recalibrated, difference", "p", "Sampled, difference", "p")
    return markdown_table(Grid(headings, cells)) + (
        f"\n\nn = {len(own)} seeds each, mean ± half of the 95 % t-interval; differences paired by seed, p two-sided "
        "and not corrected."
    )


def _compared(q: str, name: str, trained: Mapping[int, float], rows: Rows, place: int, digits: int) -> tuple[str, ...]:
    summary = summarise(list(trained.values()))
    shown = mean_and_interval(summary) if digits == 2 else f"{summary.mean:.4f} ± {summary.half_width or 0:.4f}"
    cells = [q, name, shown]
    for way in ("recalibrated", "sampled"):
        values = {row["seed"]: row[way][place] for row in rows if row[way] is not None}
        found = paired_difference(values, trained)
        cells += ["–", "–"] if found is None else [_interval(found, digits), probability(found.p_value)]
    return tuple(cells)


def _interval(found: Summary, digits: int) -> str:
    values = (found.mean, found.low, found.high)
    if digits == 2:
        mean, low, high = (signed(value) if value is not None else "–" for value in values)
    else:
        mean, low, high = (f"{value:+.4f}".replace("-", "−") if value is not None else "–" for value in values)
    return f"{mean} [{low}, {high}]"


PAGES = {
    "docs/theory.md": {
        "two-layers": two_layers,
        "one-flip": one_flip,
        "skip": skip,
        "real-networks": real_networks,
        "property-5.2": property_52,
        "recalibration": recalibration,
    },
    "docs/errata.md": {"property-5.1": property_51},
}


def pages(root: Path) -> Pages:
    parts = json.loads((root / "results" / "theory" / "simulation.json").read_text(encoding="utf-8"))["parts"]
    return {place: {name: block(parts[name]) for name, block in blocks.items()} for place, blocks in PAGES.items()}


def main(root: Path = ROOT, argv: list[str] | None = None) -> int:
    return update(pages, root, argv, __file__, __doc__)


if __name__ == "__main__":
    sys.exit(main())
