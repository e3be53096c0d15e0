"""What every comparison of a table shows at a glance: better, worse or inconclusive."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from dropact.experiments.statistics import ALPHA, Summary
from dropact.report import budgets
from dropact.report.captions import FAMILY, count, mean_beside, signed_interval
from dropact.report.grids import Grid
from dropact.report.tables import BASELINE, MethodResult, Table

BETTER, WORSE, INCONCLUSIVE = "better", "worse", "inconclusive"
MANY = 4  # so many neighbours of one kind are a sweep, of which a line of the overview gives the two ends
OVERVIEW = (
    "Test error in percent; differences in points with their 95 % intervals, paired by seed, below zero is better. "
    f"Better or worse: p is below 0.05 by the paired t-test, {FAMILY}; for profiles of survival rates, for their "
    "comparisons with uniform ones. All else is inconclusive. Of four or more values of one option side by side, the "
    "first and the last are given."
)


@dataclass(frozen=True)
class Effect:
    """A method with what it is compared with, on the same seeds.

    Attributes:
        kind: what a sweep of one option has in common.
        against: the label of what it is compared with, where that is neither the baseline nor said by `label`.
        base: the test error of what it is compared with, over all its seeds.
        corrected: the p-value by Holm; None without a test.
    """

    kind: str
    label: str
    against: str
    base: Summary
    difference: Summary
    corrected: float | None

    @property
    def verdict(self) -> str:
        if self.corrected is None or self.corrected >= ALPHA:
            return INCONCLUSIVE
        return BETTER if self.difference.mean < 0 else WORSE

    @property
    def shown(self) -> str:
        return f"{self.label} {signed_interval(self.difference)}"

    @property
    def compared_with(self) -> str:
        """The test error of what it is compared with, beside the number of pairs, and what that is if not the
        baseline."""
        return mean_beside(self.base, self.difference.n) + (f", {self.against}" if self.against else "")


def comparisons(table: Table) -> list[Effect]:
    """With the baseline, or a combination with itself without its last part; profiles of survival rates with uniform
    ones at the same budget instead, where the table has them."""
    pairs = budgets.against_uniform(table)
    return [
        Effect(
            pair.profile,
            f"survival rates {budgets.PROFILES[pair.profile][1]} against uniform, budget {pair.budget:g}"
            f"{_beside_plain(pair.row)}",
            "",
            pair.uniform.test,
            pair.difference,
            pair.corrected,
        )
        for pair in sorted(pairs, key=lambda pair: (pair.profile, pair.budget))
    ] + [
        against_reference(table, row)
        for row in table.rows
        if row.difference is not None and not budgets.is_paired(row, pairs)
    ]


def _beside_plain(row: MethodResult) -> str:
    """What a profile is against the plain network, which may be better than both that are compared."""
    if row.difference is None or row.reference is None:
        return ""
    return f" ({signed_interval(row.difference)} against every branch kept)"


def against_reference(table: Table, row: MethodResult) -> Effect:
    """A row that has a difference, with what that is to."""
    base = next(other for other in table.rows if other.label == row.reference)
    assert row.difference is not None
    against = "" if base.method == BASELINE else base.label
    return Effect(row.method, row.label, against, base.test, row.difference, row.corrected)


def overview(studies: Mapping[str, Sequence[Table]]) -> Grid:
    """One line per table of every study, the comparisons in the column of what they show.

    Args:
        studies: the tables of each, by what it is called.
    """
    lines = []
    for name, tables in studies.items():
        for table in tables:
            found = comparisons(table)
            if not found:
                continue
            counts = {one.difference.n for one in found}
            n = "-".join(map(str, sorted({min(counts), max(counts)})))
            cells = (
                _listed([one for one in found if one.verdict == verdict]) for verdict in (BETTER, WORSE, INCONCLUSIVE)
            )
            lines.append([f"{name}: {table.title}", n, _base(found, max(counts)), *cells])
    return Grid(["Study", "n", "Compared with (%)", "Better", "Worse", "Inconclusive"], lines)


def sentence(tables: Sequence[Table]) -> str:
    """The verdict of a whole report in one sentence; "" where nothing is compared."""
    counts = Counter(one.verdict for table in tables for one in comparisons(table))
    if not counts:
        return ""
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (BETTER, WORSE, INCONCLUSIVE))
    uniform = "; survival rates against uniform ones" if any(map(budgets.against_uniform, tables)) else ""
    return f"Verdict: of {count(counts.total(), 'comparison')} {said}, after Holm correction{uniform}."


def _base(found: Sequence[Effect], n: int) -> str:
    bases = sorted({one.base for one in found}, key=lambda base: base.mean)
    if len(bases) == 1:
        return mean_beside(bases[0], n)
    return f"{bases[0].mean:.2f} to {bases[-1].mean:.2f}"


def _listed(found: Sequence[Effect]) -> str:
    """Each in words; of a sweep the ends."""
    said = []
    for _, group in groupby(found, key=lambda one: one.kind):
        alike = list(group)
        if len(alike) < MANY:
            said += [one.shown for one in alike]
        else:
            said.append(f"{alike[0].shown} to {alike[-1].shown} ({len(alike)} values)")
    return "; ".join(said) or "–"
