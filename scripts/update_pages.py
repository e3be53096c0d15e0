"""Fills what is measured on the method cards and on other pages of docs/ from the records under results/.

python scripts/update_pages.py            # rewrites the pages
python scripts/update_pages.py --check    # exit status 1 if a page is not what the records say

A card takes part when it has the marks of the two blocks (`effects:begin` and so on, as the others have); its name in
`dropact bench` and in `dropact compare --methods` stands in CARDS. A picture is drawn by a function of draw_cards.py.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import depth_regression
import gaaf_argument
from generated import (
    ROOT,
    Blocks,
    Measured,
    Pages,
    Reports,
    all_made_by,
    bench_tables,
    benchmarks,
    commands,
    depth_costs,
    figure,
    how,
    made_by,
    read_benchmark,
    regressions,
    reports_in,
    study,
    update,
    variance_shifts,
    well_begun,
    what,
    whole,
)

from dropact.experiments.methods import parts_of
from dropact.report import budgets, verdicts
from dropact.report.captions import mean_and_interval, mean_beside, probability, signed_interval
from dropact.report.grids import Grid
from dropact.report.text import markdown_list, markdown_table

ARGUMENT = "results/gaaf-argument/argument.json"
REGRESSION = "results/depth-regression/regression.json"
DIFFERENCES = "results/differences/differences.json"
BATTERY = "results/randomness/battery.json"
SCHEDULER = "results/scale/scheduler.json"
Tables = Sequence[Measured]


@dataclass(frozen=True)
class Card:
    """How a method is called where it is compared and where it is timed; "" where it is not (yet).

    Args:
        timed: what else is known of its costs, from the root of the records.
    """

    method: str
    operation: str
    timed: Callable[[Path], str] | None = None


CARDS: Mapping[str, Card] = {
    "drop-activation": Card("drop-activation", "drop_activation"),
    "randomized-relu": Card("rrelu", "randomized_relu"),
    "gaaf": Card("gaaf", "gaaf"),
    "surrogate-gradients": Card("", ""),
    "aid": Card("aid", "aid"),
    "stocha": Card("stocha", "stocha"),
    "stochastic-depth": Card("stochastic-depth", "", depth_costs),
}
PRIMITIVES = ("stochastic-activation",)  # pages of what methods are made of: nobody's method, nothing to measure


def effects(card: Card, reports: Reports, root: Path) -> str:
    """Every comparison of the method with what it is added to, under every setting recorded."""
    rows = []
    for name, report in reports.items():
        for table in report.tables:
            for row in table.rows:
                if card.method and card.method in parts_of(row.method) and row.difference is not None:
                    one = verdicts.against_reference(table, row)
                    numbers = (str(one.difference.n), one.compared_with, mean_beside(row.test, one.difference.n))
                    numbers += (signed_interval(one.difference),)
                    setting = f"{study(name, report, '../..')}, {table.title}: {row.label}"
                    rows.append((setting, *numbers, probability(row.corrected)))
    headings = ("Setting", "n", "Compared with (%)", "With it (%)", "Difference (points)", "p, corrected")
    said = [markdown_table(Grid(headings, rows))] if rows else []
    if card.method == "drop-activation" and (listed := regressions(root)):
        said.append("Regression, [Figure 3](../../results/figure3/table.md): root mean square distance to the truth.")
        said.append(listed)
    if card.method == "drop-activation" and (shifts := variance_shifts(reports, "../..")):
        said.append(shifts)
    if card.method == "stochastic-depth":
        said += equal_budgets(reports)
        if (record := root / REGRESSION).exists():
            said.append(regression(json.loads(record.read_text(encoding="utf-8"))))
    if rows:
        said.append("Test error of the last epoch, mean ± half of the 95 % t-interval; differences paired by seed.")
    return "\n\n".join(said) if said else "None recorded yet."


def equal_budgets(reports: Reports) -> list[str]:
    """Every table with profiles of survival rates: these at equal budgets, and in words."""
    said = []
    for name, report in reports.items():
        for table in report.tables:
            if (equal := budgets.grid(table)) is not None:
                said.append(
                    f"{study(name, report, '../..')}, {table.title}, profiles of survival rates at equal budgets:"
                )
                said += [markdown_table(equal), budgets.CAPTION, markdown_list(budgets.sentences(table))]
    return said


def regression(record: Mapping[str, Any]) -> str:
    """The toy regression: errors and differences, and the command."""
    return (
        "Toy regression, a network of 16 residual branches: root mean square distance to the true function in "
        f"evaluation, differences paired by seed, p by Holm over this table.\n\n{depth_regression.page(record)}\n\n"
        f"Made by {commands(record['environments'])}; [record](../../{REGRESSION})."
    )


def costs(card: Card, tables: Tables) -> str:
    """Forward + backward, and whole training steps, beside plain ReLU's."""
    rows, shown = [], []
    for table, made in tables:
        of = [row for row in table["rows"] if card.operation and row["label"].split(",")[0] == card.operation]
        for row in of:
            kept = row["kept"]
            way = f"{how(table)}, {made['device']}"
            rows.append((f"{table['what']}, {row['label']}", way, whole(row).shown, _kept(kept) if kept else "–"))
        if of:
            shown.append((table, made))
    if not rows:
        return "None recorded yet."
    headings = ("What", "How", "Time, as a ratio to ReLU's", "Kept for backward, bytes per element")
    return f"{markdown_table(Grid(headings, rows))}\n\nMedians with 95 % intervals. {all_made_by(shown)}"


def _kept(kept: Mapping[str, float]) -> str:
    parts = [f"{value:g} {name}" for name, value in kept.items() if value]
    return " + ".join(parts).replace("more", "beyond both") if parts else "nothing"


def argument(root: Path) -> str:
    """The GAAF paper's argument on its own network, measured."""
    found = json.loads((root / ARGUMENT).read_text(encoding="utf-8"))
    seeds, first, every = (found["gradients"][name] for name in ("seeds", "epochs", "every"))
    counts = sorted({len(rows) for methods in found["learning_rates"].values() for rows in methods.values()})
    return (
        f"{gaaf_argument.page(found)}\n\n"
        f"Means over {' to '.join(map(str, counts))} seeds with half of the 95 % t-interval, of the gradients over "
        f"{seeds} seeds, every {every}th step of the first {first} epochs (the paper does not say over which it "
        "averages, nor over what its loss: ours is the mean of a batch of 128); tanh is saturated "
        f"where its derivative is below 0.1. Made by `{found['command']}`, of runs with their weights: "
        "`dropact reproduce gaaf-mnist --out RUNS` trains them, `python scripts/gaaf_argument.py RUNS` looks at them."
    )


def call_sites(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [(f"torchvision {row['network']}", str(row["modules"]), str(row["sites"])) for row in rows]
    return markdown_table(Grid(("Network", "`nn.ReLU` modules: what a swap reaches", "Converted here"), cells))


def realised_rates(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [(f"{row['rate']:g}", f"{row['usual']:.5f}", f"{row['ours']:.5f}") for row in rows]
    return markdown_table(Grid(("Nominal rate", "`rand_like(x) < rate`", "`drop_activation`"), cells))


def branch_calls(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [(row["name"], f"{100 * row['computed']:.1f}", f"{row['output_where_kept']:g}") for row in rows]
    headings = ("Way", "Steps in which the branch is computed (%)", "Output where it is kept, x = 1, branch 2x")
    return markdown_table(Grid(headings, cells))


def randomized_relu(rows: Sequence[Mapping[str, Any]]) -> str:
    said = {True: "yes", False: "no"}
    cells = [(row["name"], said[row["channels_last_kept"]], said[row["vmap"]]) for row in rows]
    return markdown_table(Grid(("Operation", "channels_last kept", "works under vmap"), cells))


def epochs(reports: Reports) -> str:
    """What reporting the best test epoch instead of the last would claim, where that is another number."""
    rows = [
        (f"{study(name, report, '..')}, {table.title}: {row.label}", *map(mean_and_interval, (row.test, row.best)))
        for name, report in reports.items()
        for table in report.tables
        for row in table.rows
    ]
    cells = [row for row in rows if row[1] != row[2]]
    same = f"In the other {len(rows) - len(cells)} of {len(rows)} rows of `results/` both are the same."
    return f"{markdown_table(Grid(('Runs', 'Last epoch (%)', 'Best epoch (%)'), cells))}\n\n{same}"


def arithmetic(tables: Tables) -> str:
    """The authors' mask arithmetic and torch's RReLU beside the fused operations."""
    cells, shown = [], []
    for table, made in tables:
        found = {row["label"]: whole(row).ratio for row in table["rows"]}
        names = ("mask arithmetic", "drop_activation", "F.rrelu", "randomized_relu")
        if all(name in found for name in names):
            cells.append((f"{what(table)}, {made['device']}", *(f"{found[name]:.2f}" for name in names)))
            shown.append((table, made))
    headings = ("What", "Mask arithmetic", "`drop_activation`", "`F.rrelu`", "`randomized_relu`")
    return f"{markdown_table(Grid(headings, cells))}\n\n{all_made_by(shown)}"


def blocks_of_differences(root: Path, reports: Reports, tables: Tables) -> Blocks:
    parts = json.loads((root / DIFFERENCES).read_text(encoding="utf-8"))["parts"]
    return {
        "call-sites": call_sites(parts["call-sites"]),
        "realised-rates": realised_rates(parts["realised-rates"]),
        "branch-calls": branch_calls(parts["branch-calls"]),
        "randomized-relu": randomized_relu(parts["randomized-relu"]),
        "epochs": epochs(reports),
        "arithmetic": arithmetic(tables),
    }


def conversion(root: Path) -> str:
    """What converting a model takes, and a training step with converted calls."""
    said = []
    for record in benchmarks(root, "dropact conversion 1"):
        rows = [
            (f"{table['title']}: {row['name']}", f"{row['microseconds'] / 1e3:.1f}", figure(row).shown)
            for table in record["tables"]
            for row in table["rows"]
        ]
        first = ", ".join(f"{name} {1e3 * seconds:.0f} ms" for name, seconds in record["first_seconds"].items())
        said.append(markdown_table(Grid(("What", "Median (ms)", "As a ratio to the first, 95 % interval"), rows)))
        said.append(
            f"The first time, when sources are read: {first}. {made_by(record['environment'], record['tables'])}"
        )
    return "\n\n".join(said)


def battery(root: Path) -> str:
    """What dieharder says of the mask bits, and at greater length of what it doubted."""
    record = json.loads((root / BATTERY).read_text(encoding="utf-8"))
    found = [row for times in record["tests"].values() for row in times[0]]
    counts = Counter(row["assessment"] for row in found)
    lines = []
    for times in record["tests"].values():
        for made in zip(*times, strict=True):  # one p-value at every length
            if any(row["assessment"] != "passed" for row in made):
                cells = [f"{row['p']:.4f}, {row['assessment']}" for row in made]
                lines.append([f"{made[0]['test']} {made[0]['n']}", *cells, *["–"] * (3 - len(cells))])
    said = ", ".join(f"{counts[word]} {word}" for word in ("passed", "weak", "failed"))
    parts = [f"{len(found)} p-values, {said}."]
    if lines:
        parts.append(markdown_table(Grid(("Weak or failed at any length", "p", "4 times as long", "16 times"), lines)))
    made = commands(record["environments"])
    return "\n\n".join([*parts, f"Made by {made}, dieharder {record['dieharder']}; [record](../{BATTERY})."])


def spreading(root: Path) -> str:
    """What it costs to spread runs, and to look at them when they are finished."""
    record = read_benchmark(root / SCHEDULER)
    over = [
        (f"`{name}`", *(f"{made[field]:.0f}" for field in ("runs_per_second", "driver_mib", "driver_growth_mib")))
        for name, made in record["spread"].items()
    ]
    look = [
        (f"`{name}`", *(f"{made[field]:.0f}" for field in ("processor_seconds", "seconds", "peak_mib")))
        for name, made in record["commands"].items()
    ]
    headings = (
        "Spread over",
        "Runs per second",
        "Memory of the command (MiB)",
        "Its growth after the first tenth of the runs (MiB)",
    )
    return "\n\n".join(
        [
            f"{record['runs']:,} runs that train nothing:",
            markdown_table(Grid(headings, over)),
            "A folder of them, all finished, and `compare` with nothing left to train:",
            markdown_table(Grid(("Command", "Processor time (s)", "By the clock (s)", "Peak memory (MiB)"), look)),
            made_by(record["environment"]),
        ]
    )


def pages(root: Path) -> Pages:
    """Every page as the records have it."""
    tables = bench_tables(root)
    reports = well_begun(reports_in(root))
    cards = {
        f"docs/methods/{name}.md": {
            "effects": effects(card, reports, root),
            "costs": card.timed(root) if card.timed else costs(card, tables),
        }
        for name, card in CARDS.items()
    }
    cards["docs/methods/gaaf.md"] = {**cards["docs/methods/gaaf.md"], "argument": argument(root)}
    return {
        **cards,
        "docs/differences.md": blocks_of_differences(root, reports, tables),
        "docs/conversion.md": {"costs": conversion(root)},
        "docs/randomness.md": {"battery": battery(root)},
        "docs/scale.md": {"spreading": spreading(root)},
    }


def main(root: Path = ROOT, argv: list[str] | None = None) -> int:
    return update(pages, root, argv, __file__, __doc__)


if __name__ == "__main__":
    sys.exit(main())
