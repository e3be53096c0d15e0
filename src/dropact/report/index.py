"""A folder of folders of runs: what each shows in its own words, the other records beside, on one page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dropact.experiments.config import schedule_mark
from dropact.experiments.errors import NoRunsError
from dropact.experiments.packed import PACKED
from dropact.experiments.recipes import figure3
from dropact.experiments.records import RUNS
from dropact.report import budgets, figure6
from dropact.report.captions import LEGEND, reading
from dropact.report.collect import collect
from dropact.report.figure3 import TITLE, read_study
from dropact.report.grids import Grid
from dropact.report.page import bullets, document, html_table
from dropact.report.tables import Table
from dropact.report.verdicts import OVERVIEW, overview

PAGE = "index.html"
UNFINISHED = "No finished run yet"
SUBTITLE = "Drop-Activation against ReLU"


@dataclass(frozen=True)
class Study:
    """One folder of runs: the sentences about each of its tables, under their titles; two regressions have none.

    A folder without a finished run has no parts, and no report of its own.
    """

    name: str
    title: str
    parts: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    gaps: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Study":
        """What the records in a folder say.

        Raises:
            RecordError: they are damaged.
        """
        if (folder / figure3.FILE).is_file():
            found = read_study(folder)
            return cls(folder.name, TITLE, {SUBTITLE: found.sentences()})
        try:
            report = collect(folder)
        except NoRunsError:
            return cls(folder.name, UNFINISHED, {})
        parts: dict[str, Sequence[str]] = {}
        for table in report.tables:
            mark = schedule_mark(table.setting)
            said = reading(table) or [f"{row.label}: {row.test.mean:.2f} % test error." for row in table.rows]
            said = [*said, *budgets.sentences(table), *figure6.sentences(table)]
            parts[table.title] = [f"Schedule {mark}.", *said] if mark and mark not in table.title else said
        return cls(folder.name, report.title, parts, report.notes, report.tables, report.gaps)


def studies_in(folder: Path) -> list[Path]:
    """The folders of runs below `folder`, by name; none if it is one itself."""
    if not folder.is_dir() or is_study(folder):
        return []
    return [path for path in sorted(folder.iterdir()) if is_study(path)]


def is_study(folder: Path) -> bool:
    """Whether it holds runs, or the two regressions of Figure 3."""
    return (folder / RUNS).is_dir() or any((folder / name).is_file() for name in (PACKED, figure3.FILE))


def other_records(folder: Path) -> Grid | None:
    """The JSON records of the folders that hold no runs: benchmarks, simulations, with what made them; None if none."""
    rows = []
    for path in sorted(folder.glob("*/*.json")):
        if is_study(path.parent):
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            rows.append([str(path.relative_to(folder)), "damaged, not JSON", "–", "–"])
            continue
        rows.append([str(path.relative_to(folder)), *map(str, _made(_environment(record)))])
    return Grid(["Record", "Command", "Revision", "On"], rows) if rows else None


def _environment(record: Any) -> Mapping[str, Any]:
    """What a record was made with; of several, what began it."""
    if not isinstance(record, dict):
        return {}
    several = record.get("environments")
    if isinstance(several, dict):  # by part
        several = list(several.values())
    first = several[0] if isinstance(several, list) and several else record
    found = record.get("environment") or first
    return found if isinstance(found, dict) else {}


def _made(environment: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    versions = environment.get("packages")
    versions = versions if isinstance(versions, dict) else {}
    on = environment.get("accelerator") or environment.get("processor") or "not recorded"
    torch = f", torch {versions['torch']}" if versions.get("torch") else ""
    revision = str(environment.get("git_revision") or "not recorded")
    return environment.get("command") or "not recorded", revision[:12], f"{on}{torch}"


def index(folder: Path) -> str:
    """The page of a folder of folders; every study links to the report in its own.

    Raises:
        RecordError: the records of one are damaged.
    """
    studies, records = [Study.read(path) for path in studies_in(folder)], other_records(folder)
    glance = overview({f"{one.name} ({one.gaps})" if one.gaps else one.name: one.tables for one in studies})
    body = f"<section>\n<h2>At a glance</h2>\n{html_table(glance, OVERVIEW)}</section>\n" if glance.rows else ""
    for study in studies:
        name = escape(study.name)
        link = f'<a href="./{quote(study.name)}/report.html">{name}</a>' if study.parts else name
        body += f"<section>\n<h2>{link}</h2>\n"
        body += f"<p>{escape(study.title)}</p>\n"
        for title, sentences in study.parts.items():
            body += f"<h3>{escape(title)}</h3>\n{bullets(sentences)}"
        body += bullets(study.notes, "notes") + "</section>\n"
    if records is not None:
        table = html_table(records, "Records of benchmarks and simulations, and the command that makes each again.")
        body += f"<section>\n<h2>Other records</h2>\n{table}</section>\n"
    body += f"<section>\n<h2>How to read the numbers</h2>\n<p>{escape(LEGEND)}</p>\n</section>\n"
    return document("Results", body, [])
