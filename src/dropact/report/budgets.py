"""Profiles of survival rates at equal budgets: each against the uniform one on the same seeds, and a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dropact.experiments.statistics import ALPHA, Summary, holm, paired_difference
from dropact.report.captions import DETECTABLE, mean_and_interval, paired, probability, shows
from dropact.report.figures import COLOURS, DASHES, MARKERS, new_figure
from dropact.report.grids import Grid
from dropact.report.svg import INK, SETTINGS, render
from dropact.report.tables import BASELINE, MethodResult, Table

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
    """A profile at a budget, against uniform rates at the same.

    Attributes:
        uniform: the test error of these, over all their seeds.
    """

    budget: float
    profile: str
    uniform: Summary
    difference: Summary
    corrected: float | None

    @property
    def shown(self) -> str:
        """The difference with its interval, and the number of pairs where it is not that of the uniform runs."""
        return paired(self.difference, self.uniform.n)


def profiles(table: Table) -> dict[str, dict[float, MethodResult]]:
    """The rows of each profile, by budget, ascending."""
    found: dict[str, dict[float, MethodResult]] = {}
    for method in PROFILES:
        by_budget = {_budget(row): row for row in table.rows if row.method == method}
        if by_budget:
            found[method] = dict(sorted(by_budget.items()))
    return found


def _budget(row: MethodResult) -> float:
    option, _ = PROFILES[row.method]
    return next(iter(row.runs.values())).config.options[option]


def _errors(row: MethodResult) -> Mapping[int, float]:
    return {seed: run.result["test_error"] for seed, run in row.runs.items()}


def against_uniform(table: Table) -> list[Against]:
    """Every other profile at every budget that uniform rates have too."""
    found = profiles(table)
    uniform = found.pop(UNIFORM, {})
    pairs = []
    for method, rows in found.items():
        for budget, row in rows.items():
            if budget in uniform:
                difference = paired_difference(_errors(row), _errors(uniform[budget]))
                if difference is not None:
                    pairs.append(Against(budget, method, uniform[budget].test, difference, None))
    tested = [pair for pair in pairs if pair.difference.p_value is not None]
    corrected = dict(zip(map(id, tested), holm([p.difference.p_value or 0.0 for p in tested]), strict=True))
    return [replace(pair, corrected=corrected.get(id(pair))) for pair in pairs]


def is_paired(row: MethodResult, pairs: Sequence[Against]) -> bool:
    """Whether it is a profile that one of the pairs speaks of, or the uniform one beside it."""
    if row.method not in PROFILES:
        return False
    budget = _budget(row)
    return any(pair.budget == budget and row.method in (pair.profile, UNIFORM) for pair in pairs)


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
            pair, other = pairs.get((budget, method)), found[method].get(budget)
            if pair is None or other is None:
                line += ["–", "–", "–"]
            else:
                line += [mean_and_interval(other.test), pair.shown, probability(pair.corrected)]
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
                verdict += f" (detectable {pair.difference.detectable:.2f})"
        said.append(f"Budget {pair.budget:g}, {name} − uniform: {pair.shown} points, {verdict}.")
    return said


def picture(table: Table, name: str) -> str | None:
    """Test error against the budget, a line per profile, with 95 % intervals; None for fewer than three budgets."""
    import matplotlib

    found = profiles(table)
    budgets = sorted({budget for rows in found.values() for budget in rows})
    if len(budgets) < 3:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(5.2, 3.4)
        axes = figure.subplots()
        for place, (method, rows) in enumerate(found.items(), start=1):
            axes.errorbar(
                [budget + 0.004 * (place - 2) for budget in rows],  # beside each other, that all intervals are seen
                [row.test.mean for row in rows.values()],
                yerr=[row.test.half_width or 0.0 for row in rows.values()],
                color=COLOURS[place],
                linestyle=DASHES[place],
                marker=MARKERS[place],
                markersize=4,
                linewidth=1.4,
                capsize=3,
                label=PROFILES[method][1],
            )
        plain = [row for row in table.rows if row.method == BASELINE]
        if plain:
            axes.axhline(plain[0].test.mean, color=INK, linewidth=1, label="every branch")
        axes.set_xlabel("budget: mean share of active branches in training")
        axes.set_ylabel("Test error, last epoch (%)")
        axes.legend()
        listed = " ".join(sentences(table))
        return render(figure, name, f"Test error against the budget: {table.title}", listed)
