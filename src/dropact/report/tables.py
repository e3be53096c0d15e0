"""What a report holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropact.experiments.config import RunConfig, schedule_mark
from dropact.experiments.recipes import Printed
from dropact.experiments.records import Run
from dropact.experiments.statistics import Summary, holm
from dropact.report.paper import Paper

BASELINE = "baseline"


@dataclass(frozen=True)
class MethodResult:
    """One method under one setting: the runs by seed, and what follows from them, in percent.

    Attributes:
        difference: to the row called `reference`, paired by seed; both None for the baseline.
        corrected: the p-value of the difference by Holm, over all comparisons of the table, or of all tables of the
            paper's table or figure.
        printed: what the paper prints in this place.
        converged: epochs to converge (`experiments.convergence`); None but for runs at a constant learning rate whose
            validation error is known.
        recalibrated: test error with BatchNorm's statistics recomputed for evaluation, and its paired difference to
            `test`; None where the runs have none.
        short: what a picture calls it, where that is not its label.
    """

    label: str
    method: str
    runs: Mapping[int, Run]
    test: Summary
    best: Summary
    train: Summary
    difference: Summary | None = None
    reference: str | None = None
    corrected: float | None = None
    printed: Printed | None = None
    printed_difference: float | None = None
    converged: Summary | None = None
    recalibrated: Summary | None = None
    recalibrated_difference: Summary | None = None
    short: str = ""

    @property
    def config(self) -> RunConfig:
        """That of any of its runs, which differ in the seed alone."""
        return next(iter(self.runs.values())).config

    @property
    def errors(self) -> dict[int, float]:
        """Test error by seed."""
        return {seed: run.result["test_error"] for seed, run in self.runs.items()}

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.runs)


@dataclass(frozen=True)
class Table:
    """The rows of one setting, baseline first, and what a reader must know beside them.

    Attributes:
        label: what the paper calls it.
        apart: what tells it from other tables of the report that have the same network and data.
    """

    setting: Mapping[str, Any]
    rows: Sequence[MethodResult]
    notes: Sequence[str]
    label: str = ""
    apart: str = ""

    @property
    def title(self) -> str:
        mark, epochs = schedule_mark(self.setting), self.setting["epochs"]
        schedule = mark or f"{epochs} epoch{'s' if epochs > 1 else ''}"
        return ", ".join(
            filter(None, (self.label, self.setting["dataset"], self.setting["network"], schedule, self.apart))
        )


def baseline_labels(table: Table) -> set[str]:
    """What the table calls its baseline; nothing where it has none."""
    return {row.label for row in table.rows if row.method == BASELINE}


@dataclass(frozen=True)
class Report:
    """Everything a folder has to show.

    Attributes:
        paper: what it repeats, if anything.
        planned: how many runs its comparison or reproduction has in all; without one, how many were begun.
        diverged: how many runs have no result because they diverged.
    """

    tables: Sequence[Table]
    notes: Sequence[str]
    environments: Sequence[Mapping[str, Any]]
    paper: Paper | None
    planned: int
    diverged: int

    @property
    def finished(self) -> int:
        """How many runs have a result."""
        return sum(len(row.runs) for table in self.tables for row in table.rows)

    @property
    def gaps(self) -> str:
        """Which runs its means do without: `96 of 180 runs not finished, 1 diverged`; nothing where they have all."""
        missing = self.planned - self.finished - self.diverged
        said = [f"{missing} of {self.planned} runs not finished"] * (missing > 0)
        if self.diverged:
            said.append(f"{self.diverged} diverged" if said else f"{self.diverged} of {self.planned} runs diverged")
        return ", ".join(said)

    @property
    def title(self) -> str:
        if self.paper is not None:
            return self.paper.recipe.title
        names = sorted({str(table.setting["dataset"]) for table in self.tables})
        return f"Comparison of methods on {', '.join(names)}"


def corrected(differences: Sequence[Summary | None]) -> list[float | None]:
    """The p-value of each, by Holm over all that have one."""
    tested = [found.p_value if found else None for found in differences]
    by_holm = iter(holm([p for p in tested if p is not None]))
    return [None if p is None else next(by_holm) for p in tested]


def seed_ranges(seeds: Sequence[int]) -> str:
    """Seeds in a short form, which `--seeds` reads unless it is a single one: that is a count there.

    >>> seed_ranges([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
