"""Fills docs/when-it-helps.md from results/data-rate and results/figure2, and draws its picture.

python scripts/update_when_it_helps.py            # rewrites the page and docs/when-it-helps.svg
python scripts/update_when_it_helps.py --check    # exit status 1 if either is not what the records say
"""

import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from generated import ROOT, Pages, Reports, reports_in, study, update

from dropact.experiments.statistics import paired_difference
from dropact.report import verdicts
from dropact.report.captions import count, mean_and_interval, signed, signed_interval
from dropact.report.grids import Grid
from dropact.report.svg import INK, canvas, render, standalone
from dropact.report.tables import BASELINE, MethodResult
from dropact.report.text import markdown_list, markdown_table

PICTURE = "docs/when-it-helps.svg"
STUDY, FULL = "data-rate", "figure2"
DROP, DROPOUT = "drop-activation", "dropout"
BESIDE = 0.1  # the rate that is compared with Dropout's: of those tried neither the smallest nor the largest
TITLE = "CIFAR-10: difference to ReLU against the number of training images"
Cells = Mapping[int, Mapping[str, MethodResult]]  # by number of images, then by the name of a method


def cells(reports: Reports) -> Cells:
    """The finished rows of the study, in ascending order of images."""
    found: dict[int, dict[str, MethodResult]] = {}
    for table in reports[STUDY].tables if STUDY in reports else ():
        for row in table.rows:
            found.setdefault(row.config.train_images or 50_000, {})[name(row)] = row
    return {images: found[images] for images in sorted(found) if len(found[images]) > 1}


def name(row: MethodResult) -> str:
    if row.method == DROP:
        return f"Drop-Activation {row.config.options['drop_prob']:g}"
    return {BASELINE: "ReLU", DROPOUT: "Dropout 0.5", "rrelu": "RReLU"}[row.method]


def drops(rows: Mapping[str, MethodResult]) -> dict[str, MethodResult]:
    found = {name: row for name, row in rows.items() if row.method == DROP}
    return dict(sorted(found.items(), key=lambda pair: pair[1].config.options["drop_prob"]))


def seeds(found: Cells) -> str:
    """`1 seed`, `3 to 10 seeds`: of each cell."""
    counts = sorted({row.test.n for rows in found.values() for row in rows.values()})
    return count(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def warning(found: Cells) -> str:
    """What so many seeds allow to say."""
    one = min(row.test.n for rows in found.values() for row in rows.values()) == 1
    return f"{seeds(found)} each" + (": one seed has no interval and no test" if one else "")


def summary(reports: Reports) -> str:
    """The picture in two sentences."""
    found = cells(reports)
    if not found:
        return "None recorded yet."
    ends = [(images, gains(rows)) for images, rows in found.items()]
    said = "; ".join(f"{images:,} images {signed(low, 1)} to {signed(high, 1)}" for images, (low, high) in ends)
    return f"Drop-Activation's test error minus ReLU's over all rates tried, points: {said}. {warning(found)}."


def gains(rows: Mapping[str, MethodResult]) -> tuple[float, float]:
    differences = [row.difference.mean for row in drops(rows).values() if row.difference is not None]
    return min(differences), max(differences)


def table(found: Cells) -> str:
    """One column per number of images."""
    names = list(dict.fromkeys(name for rows in found.values() for name in ("Dropout 0.5", "RReLU", *drops(rows))))
    plain = [rows["ReLU"] for rows in found.values()]
    lines = [
        ["Seeds", *(str(row.test.n) for row in plain)],
        ["ReLU, train error (%)", *(mean_and_interval(row.train) for row in plain)],
        ["ReLU, test error (%)", *(mean_and_interval(row.test) for row in plain)],
    ]
    for shown in names:
        lines.append([f"{shown} − ReLU", *(_difference(rows.get(shown)) for rows in found.values())])
    ours = f"Drop-Activation {BESIDE:g}"
    lines.append([f"{ours} − Dropout 0.5", *(_against_dropout(rows, ours) for rows in found.values())])
    return markdown_table(Grid(["", *(f"{images:,} images" for images in found)], lines))


def _difference(row: MethodResult | None) -> str:
    return "–" if row is None or row.difference is None else signed_interval(row.difference)


def _against_dropout(rows: Mapping[str, MethodResult], ours: str) -> str:
    if ours not in rows or "Dropout 0.5" not in rows:
        return "–"
    return signed_interval(paired_difference(rows[ours].errors, rows["Dropout 0.5"].errors))


def readings(found: Cells) -> Iterator[str]:
    """Of every number of images, how many rates are below ReLU and what Dropout does."""
    for images, rows in found.items():
        ours = [row.difference.mean for row in drops(rows).values() if row.difference is not None]
        low, high = gains(rows)
        dropout = rows.get("Dropout 0.5")
        beside = f"; Dropout 0.5: {_difference(dropout)}" if dropout else ""
        below = sum(mean < 0 for mean in ours)
        yield (
            f"{images:,} images, ReLU's train error {rows['ReLU'].train.mean:.1f} %: {below} of "
            f"{count(len(ours), 'rate')} below ReLU, from {signed(low)} to {signed(high)}{beside}."
        )


def few(reports: Reports) -> str:
    found = cells(reports)
    if not found:
        return "None recorded yet."
    return "\n\n".join(
        [
            table(found),
            f"{study(STUDY, reports[STUDY], '..')}: {warning(found)}. Points of test error, below zero is better, "
            "paired by seed; in brackets 95 % intervals. The same number of steps at every number of images.",
            markdown_list(list(readings(found))),
        ]
    )


def full(reports: Reports) -> str:
    """What each rate does with all images, with its verdict."""
    if FULL not in reports:
        return "None recorded yet."
    lines = [
        [one.label.partition(": ")[2], str(one.difference.n), signed_interval(one.difference), one.verdict]
        for part in reports[FULL].tables
        for one in verdicts.comparisons(part)
    ]
    title = reports[FULL].tables[0].title
    return f"{study(FULL, reports[FULL], '..')}, {title}:\n\n" + markdown_table(
        Grid(("Method", "Seeds", "Difference to ReLU (points)", "Verdict"), lines)
    )


def description(found: Cells) -> str:
    """The picture in words."""
    parts = []
    for images, rows in found.items():
        said = ", ".join(f"{name} {_difference(row)}" for name, row in rows.items() if name != "ReLU")
        parts.append(f"{images:,} images: {said}")
    return f"Points of test error, below zero is better; {warning(found)}. {'; '.join(parts)}."


def drawn(found: Cells) -> str:
    """Difference to ReLU against images, a line per method."""
    import matplotlib

    rates = sorted({row.config.options["drop_prob"] for rows in found.values() for row in drops(rows).values()})
    hues = matplotlib.colormaps["viridis"]
    styles = {
        f"Drop-Activation {rate:g}": {"color": hues(0.3 + 0.5 * place / max(1, len(rates) - 1)), "marker": "o"}
        for place, rate in enumerate(rates)
    }
    styles["Dropout 0.5"] = {"color": "#D55E00", "marker": "s", "linestyle": "--"}
    styles["RReLU"] = {"color": "#999999", "marker": "^", "linestyle": ":"}
    with canvas(7.4, 3.3) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=INK, linewidth=1)
        for label, style in styles.items():
            there = {
                images: rows[label].difference
                for images, rows in found.items()
                if label in rows and rows[label].difference is not None
            }
            means = [one.mean for one in there.values()]
            halves = [one.half_width or 0 for one in there.values()]
            axes.errorbar(list(there), means, halves, label=label, linewidth=1.6, markersize=4, capsize=2, **style)
        axes.set_xscale("log")
        axes.set_xticks(list(found), [f"{images:,}" for images in found])
        axes.minorticks_off()
        axes.set_xlabel("training images")
        axes.set_ylabel("test error − ReLU's (points)")
        axes.set_title(f"Below the line: better than ReLU ({seeds(found)})", fontsize=10)
        figure.legend(loc="outside right center", fontsize=9)
        return standalone(render(figure, "when-it-helps", TITLE, description(found)))


def pages(root: Path) -> Pages:
    reports = reports_in(root)
    return {"docs/when-it-helps.md": {"few": few(reports), "full": full(reports)}}


def main(root: Path = ROOT, argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    status = update(pages, root, argv, __file__, __doc__)
    found = cells(reports_in(root))
    if "--check" not in argv:
        (root / PICTURE).write_text(drawn(found), encoding="utf-8")
    elif f">{escape(description(found))}<" not in (root / PICTURE).read_text(encoding="utf-8"):
        sys.stderr.write(f"{PICTURE}: not what the records say: run scripts/{Path(__file__).name}\n")
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
