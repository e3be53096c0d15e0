"""The tables of a report as words in rows and columns, the same for terminal, Markdown and HTML."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropact.experiments.config import schedule_mark
from dropact.experiments.methods import label
from dropact.report import captions
from dropact.report.tables import MethodResult, Report, Table, baseline_labels

NUMBER = re.compile(r"[–+−<]? ?\d|–$|$")  # how a cell of a column of numbers begins, or that it has none

# The columns that a table has only where something stands in them.
SOMETIMES = {"Paper (%)", "Paper's difference", "BatchNorm recomputed (%)", "Epochs to converge, paper"}
SOMETIMES |= {"Epochs to converge"}


@dataclass(frozen=True)
class Grid:
    """Headings and rows of equal length; the first cell of a row names it."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def in_words(self) -> list[bool]:
        """Of every column whether it is read as text, from the left, not as numbers.

        >>> Grid(("Method", "Error", "Shown"), [("ReLU", "4.5 ± 0.1", "–"), ("RReLU", "–", "costs")]).in_words
        [True, False, True]
        """
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.headings)
        return [number == 0 or not all(map(NUMBER.match, cells)) for number, cells in enumerate(columns)]


def of_methods(table: Table) -> Grid:
    """One line per method, with what a combination is compared with, and the paper's number where it has one."""
    plain = all(row.reference is None or row.reference in baseline_labels(table) for row in table.rows)

    def difference(row: MethodResult) -> str:
        text = captions.difference(row)
        return text if plain or not row.reference else f"{text} to {row.reference}"

    columns: dict[str, Callable[[MethodResult], str]] = {
        "Method": lambda row: row.label,
        "n": lambda row: str(row.test.n),
        "Paper (%)": lambda row: captions.printed(row.printed),
        "Test error, last epoch (%)": lambda row: captions.mean_and_interval(row.test),
        "Difference to baseline (points)" if plain else "Difference (points)": difference,
        "Paper's difference": lambda row: captions.signed(row.printed_difference),
        "p": lambda row: captions.probability(row.difference.p_value if row.difference else None),
        "p, corrected": lambda row: captions.probability(row.corrected),
        "Minimum detectable effect (points)": captions.detectable,
        "BatchNorm recomputed (%)": captions.recalibrated,
        "Best epoch, not used (%)": lambda row: captions.mean_and_interval(row.best),
        "Train error (%)": lambda row: captions.mean_and_interval(row.train),
        "Epochs to converge, paper": _printed_epochs,
        "Epochs to converge": lambda row: captions.mean_and_interval(row.converged, digits=1),
    }
    cells = {heading: [cell(row) for row in table.rows] for heading, cell in columns.items()}
    shown = [name for name, found in cells.items() if name not in SOMETIMES or set(found) != {"–"}]
    return Grid(shown, list(zip(*(cells[name] for name in shown), strict=True)))


def _printed_epochs(row: MethodResult) -> str:
    return "{:g} ± {:g}".format(*row.printed.epochs) if row.printed and row.printed.epochs else "–"


def of_paper(report: Report) -> Grid | None:
    """The paper's own table with ours beside it, one line per network; None where there is no such table."""
    tables = [table for table in report.tables if table.label]
    methods = dict.fromkeys(row.method for table in tables for row in table.rows if row.printed)
    if not methods:
        return None
    headings = ["Network", "n"]
    for method in methods:
        name = label(method, tables[0].setting["network"])
        headings += [f"{name}, paper (%)", f"{name}, here (%)"]
    lines = []
    for table in tables:
        rows = {row.method: row for row in table.rows}
        mark = schedule_mark(table.setting)
        counts = {row.test.n for row in table.rows}
        line = [f"{table.label} ({mark})" if mark else table.label]
        line.append("-".join(map(str, sorted({min(counts), max(counts)}))))
        for method in methods:
            row = rows.get(method)
            line += [captions.printed(row.printed), captions.mean_and_interval(row.test)] if row else ["–", "–"]
        lines.append(line)
    return Grid(headings, lines)


def of_runs(table: Table, environments: Sequence[Mapping[str, Any]]) -> Grid:
    """One line per run, with its directory and the number of the environment it was made in."""
    headings = ["Run", "Seed", "Test error", "Best epoch's", "Best epoch", "Train error"]
    several = len(environments) > 1
    rows = []
    for row in table.rows:
        for seed, run in row.runs.items():
            errors = [f"{run.result[name]:.2f}" for name in ("test_error", "best_test_error")]
            cells = [run.config.key, str(seed), *errors, str(run.result["best_epoch"])]
            cells += [f"{run.result['train_error']:.2f}"]
            rows.append([*cells, str(environments.index(run.environment) + 1)] if several else cells)
    return Grid([*headings, "Environment"] if several else headings, rows)
