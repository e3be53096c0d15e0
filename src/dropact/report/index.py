"""A folder of folders of runs: what each shows in its own words, the other records beside, on one page."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dropact.experiments.errors import NoRunsError
from dropact.experiments.packed import PACKED
from dropact.experiments.recipes import figure3
from dropact.experiments.records import RUNS
from dropact.report import budgets, figure6
from dropact.report.captions import LEGEND, reading
from dropact.report.collect import collect
from dropact.report.figure3 import TITLE, Results, read_study
from dropact.report.grids import Grid
from dropact.report.page import bullets, document, html_table
from dropact.report.tables import Report, Table
from dropact.report.verdicts import OVERVIEW, overview

PAGE = "index.html"
UNFINISHED = "No finished run yet"
SUBTITLE = "Drop-Activation against ReLU"


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


def _mapping(value: Any) -> Mapping[str, Any]:
    """What a record says in a place, as far as it can be looked at."""
    return value if isinstance(value, dict) else {}


def _environment(record: Any) -> Mapping[str, Any]:
    """What a record was made with; of several, what began it."""
    several = _mapping(record).get("environments")
    if isinstance(several, dict):  # by part
        several = list(several.values())
    first = several[0] if isinstance(several, list) and several else record
    return _mapping(_mapping(record).get("environment") or first)


def _made(environment: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    on = environment.get("accelerator") or environment.get("processor") or "not recorded"
    torch = _mapping(environment.get("packages")).get("torch")
    revision = str(environment.get("git_revision") or "not recorded")
    return environment.get("command") or "not recorded", revision[:12], f"{on}, torch {torch}" if torch else on


def _read(folder: Path) -> Report | Results | None:
    """What the records in a folder say; None where no run is finished."""
    if (folder / figure3.FILE).is_file():
        return read_study(folder)
    try:
        return collect(folder)
    except NoRunsError:
        return None


def _said(table: Table) -> list[str]:
    said = reading(table) or [f"{row.label}: {row.test.mean:.2f} % test error." for row in table.rows]
    return [*said, *budgets.sentences(table), *figure6.sentences(table)]


def _section(name: str, found: Report | Results | None) -> str:
    """The sentences about each of a study's tables, under their titles; two regressions have none."""
    title, notes = UNFINISHED, list[str]()
    parts: dict[str, Sequence[str]] = {}
    if isinstance(found, Report):
        title, notes, parts = found.title, list(found.notes), {table.title: _said(table) for table in found.tables}
    elif found is not None:
        title, parts = TITLE, {SUBTITLE: found.sentences()}
    link = f'<a href="./{quote(name)}/report.html">{escape(name)}</a>' if parts else escape(name)
    inner = "".join(f"<h3>{escape(heading)}</h3>\n{bullets(sentences)}" for heading, sentences in parts.items())
    return f"<section>\n<h2>{link}</h2>\n<p>{escape(title)}</p>\n{inner}{bullets(notes, 'notes')}</section>\n"


def index(folder: Path) -> str:
    """The page of a folder of folders; every study links to the report in its own.

    Raises:
        RecordError: the records of one are damaged.
    """
    found, records = {path.name: _read(path) for path in studies_in(folder)}, other_records(folder)
    reports = {name: report for name, report in found.items() if isinstance(report, Report)}
    glance = overview({f"{name} ({one.gaps})" if one.gaps else name: one.tables for name, one in reports.items()})
    body = f"<section>\n<h2>At a glance</h2>\n{html_table(glance, OVERVIEW)}</section>\n" if glance.rows else ""
    body += "".join(_section(name, report) for name, report in found.items())
    if records is not None:
        table = html_table(records, "Records of benchmarks and simulations, and the command that makes each again.")
        body += f"<section>\n<h2>Other records</h2>\n{table}</section>\n"
    body += f"<section>\n<h2>How to read the numbers</h2>\n<p>{escape(LEGEND)}</p>\n</section>\n"
    return document("Results", body, [])
