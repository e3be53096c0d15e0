"""Fills the evidence block of the README from the records under results/; nothing in it is typed by hand.

python scripts/update_readme.py            # rewrites README.md
python scripts/update_readme.py --check    # exit status 1 if README.md or a table is not what the records say
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from generated import ROOT, Pages, bench_tables, depth_costs, machine, throughput, update, whole

from dropact.cli.parser import seeds
from dropact.experiments.errors import RecordError
from dropact.experiments.statistics import ALPHA, Summary
from dropact.report import Report, Table, budgets, collect
from dropact.report.grids import Grid
from dropact.report.tables import seed_ranges
from dropact.report.text import markdown, markdown_table
from dropact.report.words import (
    LEGEND,
    all_seeds,
    mean_and_interval,
    probability,
    setting_sentence,
    signed_interval,
)

HEADINGS = ("Study", "Method", "n", "Baseline (%)", "Difference (points)", "p, corrected", "Detectable", "Shown")


def _shown(difference: Summary, corrected: float | None) -> str:
    if corrected is None:
        return "one seed" if difference.n == 1 else "–"
    if corrected >= ALPHA:
        return "none shown"
    return "helps" if difference.mean < 0 else "costs"


def _cells(n: int, base: Summary, difference: Summary, corrected: float | None) -> list[str]:
    detectable = "–" if difference.detectable is None else f"{difference.detectable:.2f}"
    shown = signed_interval(difference)
    words = (mean_and_interval(base), shown, probability(corrected), detectable, _shown(difference, corrected))
    return [str(n), *words]


def _lines(study: str, table: Table) -> list[list[str]]:
    """One line per comparison: with the baseline; of survival rates at equal budgets with uniform ones."""
    if pairs := budgets.against_uniform(table):
        uniform = budgets.profiles(table)[budgets.UNIFORM]
        return [
            [
                f"{study}, budget {pair.budget:g}",
                f"survival rates {budgets.PROFILES[pair.profile][1]}, against uniform",
                *_cells(pair.difference.n, uniform[pair.budget].test, pair.difference, pair.corrected),
            ]
            for pair in sorted(pairs, key=lambda pair: (pair.profile, pair.budget))
        ]
    tests = {row.label: row.test for row in table.rows}
    return [
        [
            f"{study}, {table.title}",
            row.label,
            *_cells(row.difference.n, tests[row.reference], row.difference, row.corrected),
        ]
        for row in table.rows
        if row.difference is not None and row.reference in tests
    ]


def _sittings_joined(commands: Iterable[str]) -> list[str]:
    """The commands, those that differ in their seeds alone as one: what was run in sittings is made again at once.

    >>> _sittings_joined(["x --seeds 0-2 --out y", "x --seeds 4 --out y", "x --seeds 5-6 --out y", "z --seeds 3"])
    ['x --seeds 0-3,5-6 --out y', 'z --seeds 3']
    """
    sittings: dict[tuple[str, str], set[str]] = {}
    for command in commands:
        before, name, rest = command.partition(" --seeds ")
        value, gap, after = rest.partition(" ")
        sittings.setdefault((before + name, gap + after), set()).add(value)
    joined = []
    for (before, after), values in sittings.items():
        one = values.pop() if len(values) == 1 else seed_ranges(sorted({n for text in values for n in seeds(text)}))
        joined.append(f"{before}{one}{after}")
    return sorted(joined)


def _about(study: str, place: str, report: Report) -> str:
    """Where a study's page is, how it was trained, what else one must know, and the command that makes it again."""
    settings = " ".join(dict.fromkeys(setting_sentence(table.setting, all_seeds(table)) for table in report.tables))
    errors = [row.train.mean for table in report.tables for row in table.rows]
    train = f"Train error {min(errors):.1f} to {max(errors):.1f} %."
    notes = " ".join(note for note in report.notes if note.startswith("Data: "))
    words = ", ".join(f"`{command}`" for command in _sittings_joined(str(e["command"]) for e in report.environments))
    return f"* [{study}]({place}/table.md): {settings} {train} {notes} Made by {words}.".replace("  ", " ")


def accuracy(root: Path) -> str:
    """What helped and what did not: every comparison of every folder of results/ that holds runs.

    Raises:
        RecordError: records are damaged, or a committed table is not what they say.
    """
    lines, about, picture = [], [], ""
    for folder in sorted(path.parent for path in (root / "results").glob("*/runs")):
        report = collect(folder)
        place, table = folder.relative_to(root).as_posix(), folder / "table.md"
        if not table.exists() or table.read_text(encoding="utf-8") != markdown(report):
            raise RecordError(f"{place}/table.md is not what its records say: run `dropact report {place}`")
        for one in report.tables:
            lines += _lines(f"[{folder.name}]({place}/table.md)", one)
        about.append(_about(folder.name, place, report))
        if not picture:
            title = f"Test error and difference to the baseline: {report.tables[0].title}"
            picture = f"![{title}]({place}/comparison.svg)"
    if not about:
        return ""
    heading = "**What helped, and what did not**: differences in test error, below zero is better"
    return "\n\n".join([heading, markdown_table(Grid(HEADINGS, lines)), LEGEND, "\n".join(about), picture])


def evidence(root: Path) -> str:
    """The block: accuracy, then time.

    Raises:
        RecordError: records are damaged, or a committed table is not what they say.
    """
    blocks = [accuracy(root), speed(root)]
    if steps := depth_costs(root):
        blocks.append(f"**A training step with stochastic depth, as a ratio to the plain network's**\n\n{steps}")
    if rates := throughput(root):
        blocks.append(
            f"**Training from end to end**, beside the usual recipe of PIL images and a DataLoader\n\n{rates}"
        )
    return "\n\n".join(filter(None, blocks))


def speed(root: Path) -> str:
    """The benchmark records, a table for each device: forward + backward, and whole steps, as ratios to ReLU's."""
    tables = [
        (table, environment)
        for table, environment in bench_tables(root)
        if table["layout"] == "contiguous" or "step" in table["what"]
    ]
    devices = dict.fromkeys(environment["device"] for _, environment in tables)
    return "\n\n".join(_speed([(t, e) for t, e in tables if e["device"] == device]) for device in devices)


def _speed(tables: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    names = dict.fromkeys(row["label"] for table, _ in tables for row in table["rows"])
    lines = ["**Time, as a ratio to ReLU's** (medians over interleaved rounds, 95 % interval)", ""]
    lines.append(f"| what | {' | '.join(names)} |")
    lines.append(f"|---|{'---:|' * len(names)}")
    for table, _ in tables:
        cells = {row["label"]: whole(row).shown for row in table["rows"]}
        shown = (cells.get(name, "") for name in names)
        lines.append(f"| {table['what']}, {table['mode']}, {table['dtype']}, {table['shape']} | {' | '.join(shown)} |")
    where = {machine(e) for _, e in tables}
    commands = ", ".join(dict.fromkeys(f"`{e['command']}`" for _, e in tables))
    return "\n".join([*lines, "", f"On {'; '.join(sorted(where))}. Made by {commands}."])


def pages(root: Path) -> Pages:
    return {"README.md": {"evidence": evidence(root)}}


def main(root: Path = ROOT, argv: list[str] | None = None) -> int:
    return update(pages, root, argv, __file__, __doc__)


if __name__ == "__main__":
    sys.exit(main())
