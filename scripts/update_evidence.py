"""Fills what is measured in README.md and docs/evidence.md from the records in results/; nothing is typed by hand.

python scripts/update_evidence.py            # rewrites the two pages
python scripts/update_evidence.py --check    # exit status 1 if a page or a table is not what the records say
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import front_page
import update_when_it_helps
from generated import (
    ROOT,
    Measured,
    Pages,
    Reports,
    all_made_by,
    bench_tables,
    machine,
    regressions,
    reports_in,
    study,
    throughput,
    update,
    variance_shifts,
    well_begun,
    whole,
)

from dropact.cli.parser import seeds
from dropact.experiments.errors import RecordError
from dropact.experiments.progress import ENDED, RunProgress, progress_of
from dropact.report import Report, Table, verdicts
from dropact.report.captions import LEGEND, all_seeds, probability, setting_sentence, signed_interval
from dropact.report.figure3 import TITLE
from dropact.report.grids import Grid
from dropact.report.tables import seed_ranges
from dropact.report.text import markdown, markdown_table


def checked(reports: Reports, root: Path) -> Reports:
    """`reports`.

    Raises:
        RecordError: a committed table is not what its records say.
    """
    for name, report in reports.items():
        table = root / "results" / name / "table.md"
        if not table.exists() or table.read_text(encoding="utf-8") != markdown(report):
            raise RecordError(
                f"results/{name}/table.md is not what its records say: run `dropact report results/{name}`"
            )
    return reports


def _line(linked: str, table: Table, one: verdicts.Effect) -> list[str]:
    detectable = "–" if one.difference.detectable is None else f"{one.difference.detectable:.2f}"
    numbers = (str(one.difference.n), one.compared_with, signed_interval(one.difference))
    return [f"{linked}, {table.title}", one.label, *numbers, probability(one.corrected), detectable, one.verdict]


def _seeds_joined(commands: Iterable[str]) -> list[str]:
    """The commands, those that differ in their seeds alone as one, as all is made again at once.

    >>> _seeds_joined(["x --seeds 0-2 --out y", "x --seeds 4 --out y", "x --seeds 5-6 --out y", "z --seeds 3"])
    ['x --seeds 0-3,5-6 --out y', 'z --seeds 3']
    """
    found: dict[tuple[str, str], set[str]] = {}
    for command in commands:
        before, name, rest = command.partition(" --seeds ")
        value, gap, after = rest.partition(" ")
        found.setdefault((before + name, gap + after), set()).add(value)
    joined = []
    for (before, after), values in found.items():
        one = values.pop() if len(values) == 1 else seed_ranges(sorted({n for text in values for n in seeds(text)}))
        joined.append(f"{before}{one}{after}")
    return sorted(joined)


def _about(linked: str, report: Report) -> str:
    """How a study was trained, what else one must know, and the command that makes it again."""
    settings = " ".join(dict.fromkeys(setting_sentence(table.setting, all_seeds(table)) for table in report.tables))
    errors = [row.train.mean for table in report.tables for row in table.rows]
    train = f"Train error {min(errors):.1f} to {max(errors):.1f} %."
    notes = " ".join(note for note in report.notes if note.startswith("Data: "))
    words = ", ".join(f"`{command}`" for command in _seeds_joined(str(e["command"]) for e in report.environments))
    said = filter(None, (settings, train, notes, f"Made by {words}."))
    return f"* {linked}: {' '.join(said)}"


def accuracy(reports: Reports, root: Path) -> str:
    """What helped and what did not, a line per study, and the picture of the one with the most methods."""
    reports = well_begun(reports)
    if not reports:
        return ""
    studies = {study(name, report, ".."): report.tables for name, report in reports.items()}
    parts = [
        markdown_table(verdicts.overview(studies)),
        verdicts.OVERVIEW,
    ]
    if said := regressions(root):
        parts += [f"[{TITLE}](../results/figure3/table.md), root mean square distance in evaluation:", said]
    name, table = max(
        ((name, table) for name, report in reports.items() for table in report.tables),
        key=lambda pair: len({row.method for row in pair[1].rows}),
    )
    parts.append(f"![Test error and difference to the baseline: {table.title}](../results/{name}/comparison.svg)")
    return "\n\n".join(parts)


def every_comparison(reports: Reports) -> str:
    """Every comparison of every study, then how each study was trained and the command that makes it again."""
    if not reports:
        return "None recorded yet."
    headings = (
        "Study",
        "Method",
        "n",
        "Compared with (%)",
        "Difference (points)",
        "p, corrected",
        "Minimum detectable effect",
        "Verdict",
    )
    names = {name: study(name, report, "..") for name, report in reports.items()}
    lines = [
        _line(names[name], table, one)
        for name, report in reports.items()
        for table in report.tables
        for one in verdicts.comparisons(table)
    ]
    about = "\n".join(_about(names[name], report) for name, report in reports.items())
    parts = [markdown_table(Grid(headings, lines)), LEGEND, about, variance_shifts(reports, "..")]
    return "\n\n".join(filter(None, parts))


def what_it_took(reports: Reports, root: Path) -> str:
    """Of every study the runs that are there and their revisions, their core-hours and those of what is missing."""
    headings = ("Study", "Runs", "Core-hours", "Core-hours still to run", "Runs by revision")
    lines = [
        [f"[{name}](../results/{name}/table.md)", *_took(progress_of(root / "results" / name), report)]
        for name, report in reports.items()
    ]
    legend = (
        "Core-hours: threads of a run times the time it took, of all that are finished; those still to run at "
        "their median. One thread for each of two runs does as much on two cores as two threads for one, and no "
        "barrier between them waits for somebody else's process."
    )
    where = dict.fromkeys(machine(made) for report in reports.values() for made in report.environments)
    return f"{markdown_table(Grid(headings, lines))}\n\n{legend} On {'; '.join(sorted(where))}."


def _took(planned: Sequence[RunProgress], report: Report) -> tuple[str, str, str, str]:
    """How many runs of the plan are finished, their hours, the hours of the rest, and the revisions."""
    made = {
        run.config.key: run.environment for table in report.tables for row in table.rows for run in row.runs.values()
    }
    hours = [run.seconds * made[run.config.key]["threads"] / 3600 for run in planned if run.seconds is not None]
    missing = sum(run.state not in ENDED for run in planned)
    left = f"{missing * median(hours):.2g}" if missing and hours else "–"
    revisions = Counter((environment["git_revision"] or "not recorded")[:12] for environment in made.values())
    return (
        f"{len(made)} of {len(planned)}" if len(made) < len(planned) else f"{len(made)}",
        f"{sum(hours):.2g}",
        left,
        ", ".join(f"{revision}: {count}" for revision, count in revisions.most_common()),
    )


def times(root: Path) -> str:
    """Operations and steps, then whole training."""
    blocks = [speed(root)]
    if rates := throughput(root):
        blocks.append(
            f"**Training from end to end**, beside the usual recipe of PIL images and a DataLoader\n\n{rates}"
        )
    return "\n\n".join(filter(None, blocks)) or "None recorded yet."


def speed(root: Path) -> str:
    """The benchmark records, a table for each device: forward + backward, and whole steps, as ratios to ReLU's."""
    tables = [
        (table, environment)
        for table, environment in bench_tables(root)
        if table["layout"] == "contiguous" or "step" in table["what"]
    ]
    devices = dict.fromkeys(environment["device"] for _, environment in tables)
    return "\n\n".join(_speed([(t, e) for t, e in tables if e["device"] == device]) for device in devices)


def _speed(tables: list[Measured]) -> str:
    names = dict.fromkeys(row["label"] for table, _ in tables for row in table["rows"])
    lines = ["**Time, as a ratio to ReLU's** (medians over interleaved rounds, 95 % interval)", ""]
    lines.append(f"| what | {' | '.join(names)} |")
    lines.append(f"|---|{'---:|' * len(names)}")
    for table, _ in tables:
        cells = {row["label"]: whole(row).shown for row in table["rows"]}
        shown = (cells.get(name, "") for name in names)
        lines.append(f"| {table['what']}, {table['mode']}, {table['dtype']}, {table['shape']} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", all_made_by(tables)])


def pages(root: Path) -> Pages:
    reports = checked(reports_in(root), root)
    return {
        "README.md": {
            "where": update_when_it_helps.summary(reports),
            "results": front_page.results(reports),
            "speed": front_page.speed(root),
        },
        "docs/evidence.md": {
            "overview": accuracy(reports, root),
            "comparisons": every_comparison(reports),
            "times": times(root),
            "runs": what_it_took(reports, root),
        },
    }


def main(root: Path = ROOT, argv: list[str] | None = None) -> int:
    return update(pages, root, argv, __file__, __doc__)


if __name__ == "__main__":
    sys.exit(main())
