"""Profiles of survival rates at equal budgets: each against the uniform one on the same seeds, and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dropact.experiments.statistics import ALPHA, Summary, paired_difference
from dropact.report.captions import DETECTABLE, mean_and_interval, paired, probability, shows
from dropact.report.grids import Grid
from dropact.report.marks import COLOURS, DASHES, MARKERS, points
from dropact.report.svg import INK, canvas, render
from dropact.report.tables import BASELINE, MethodResult, Table, corrected

# Their option is the budget.
PROFILES = {
    "depth-uniform": ("uniform_budget", "uniform"),
    "depth-linear": ("linear_budget", "linear"),
    "depth-sensitivity": ("sensitive_budget", "by sensitivity"),
}
UNIFORM = "depth-uniform"
CAPTION = (
    "Test error at equal budgets, the mean share of branches that are active in training, and in points the difference "
    "of each other profile to the uniform one on the same seeds with its 95 % interval; p by the paired t-test, "
    f"corrected by Holm for all differences of this table. {DETECTABLE}"
)


@dataclass(frozen=True)
class Against:
    """A profile at a budget, against uniform rates at the same; the p-value is corrected by Holm."""

    budget: float
    profile: str
    row: MethodResult
    uniform: MethodResult
    difference: Summary
    corrected: float | None = None

    @property
    def shown(self) -> str:
        """The difference with its interval, and the number of pairs where it is not that of the uniform runs."""
        return paired(self.difference, self.uniform.test.n)


def profiles(table: Table) -> dict[str, dict[float, MethodResult]]:
    """The rows of each profile, by budget, ascending."""
    found: dict[str, dict[float, MethodResult]] = {}
    for method, (option, _) in PROFILES.items():
        by_budget = {row.config.options[option]: row for row in table.rows if row.method == method}
        if by_budget:
            found[method] = dict(sorted(by_budget.items()))
    return found


def against_uniform(table: Table) -> list[Against]:
    """Every other profile at every budget that uniform rates have too."""
    found = profiles(table)
    uniform = found.pop(UNIFORM, {})
    pairs = [
        Against(budget, method, row, uniform[budget], difference)
        for method, rows in found.items()
        for budget, row in rows.items()
        if budget in uniform and (difference := paired_difference(row.errors, uniform[budget].errors)) is not None
    ]
    by_holm = corrected([pair.difference for pair in pairs])
    return [replace(pair, corrected=p) for pair, p in zip(pairs, by_holm, strict=True)]


def is_paired(row: MethodResult, pairs: Sequence[Against]) -> bool:
    """Whether it is a profile that one of the pairs speaks of, or the uniform one beside it."""
    return any(row.label in (pair.row.label, pair.uniform.label) for pair in pairs)


def grid(table: Table) -> Grid | None:
    """One line per budget; None where there is nothing to compare."""
    pairs = {(pair.budget, pair.profile): pair for pair in against_uniform(table)}
    if not pairs:
        return None
    found = profiles(table)
    others = [method for method in found if method != UNIFORM]
    headings = ["Budget", "n", "Uniform (%)"]
    for method in others:
        name = PROFILES[method][1].capitalize()
        headings += [f"{name} (%)", "− uniform (points)", "p, corrected"]
    lines = []
    for budget, row in found[UNIFORM].items():
        line = [f"{budget:g}", str(row.test.n), mean_and_interval(row.test)]
        for method in others:
            pair = pairs.get((budget, method))
            cells = pair and [mean_and_interval(pair.row.test), pair.shown, probability(pair.corrected)]
            line += cells or ["–", "–", "–"]
        lines.append(line)
    return Grid(headings, lines)


def sentences(table: Table) -> list[str]:
    """What each comparison shows: one sentence per budget and profile."""
    said = []
    for pair in sorted(against_uniform(table), key=lambda pair: (pair.budget, pair.profile)):
        name = PROFILES[pair.profile][1]
        if pair.corrected is None:
            verdict = pair.difference.note or "no test"
        else:
            verdict = shows(pair.difference, pair.corrected, "uniform")
            if pair.corrected >= ALPHA:
                verdict += f" (minimum detectable effect {pair.difference.detectable:.2f})"
        said.append(f"Budget {pair.budget:g}, {name} − uniform: {pair.shown} points, {verdict}.")
    return said


def picture(table: Table, name: str) -> str | None:
    """Test error against the budget, a line per profile, with 95 % intervals; None for fewer than three budgets."""
    found = profiles(table)
    if len({budget for rows in found.values() for budget in rows}) < 3:
        return None
    with canvas(5.2, 3.4) as figure:
        axes = figure.subplots()
        for place, (method, rows) in enumerate(found.items(), start=1):
            beside = 0.004 * (place - 2)  # beside each other, that all intervals are seen
            style = {"color": COLOURS[place], "linestyle": DASHES[place], "marker": MARKERS[place]}
            by_budget = {budget + beside: row.test for budget, row in rows.items()}
            points(axes, by_budget, style, PROFILES[method][1])
        plain = [row for row in table.rows if row.method == BASELINE]
        if plain:
            axes.axhline(plain[0].test.mean, color=INK, linewidth=1, label="every branch")
        axes.set_xlabel("budget: mean share of active branches in training")
        axes.set_ylabel("Test error, last epoch (%)")
        axes.legend()
        listed = " ".join(sentences(table))
        return render(figure, name, f"Test error against the budget: {table.title}", listed)
