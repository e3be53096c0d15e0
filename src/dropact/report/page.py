"""The report as one HTML page that loads nothing: no network, light and dark, wide and narrow, on paper."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from dropact.experiments.config import schedule_mark
from dropact.report import budgets, figure6, verdicts
from dropact.report.captions import LEGEND, all_seeds, count, reading, setting_sentence
from dropact.report.grids import Grid, of_methods, of_paper, of_runs
from dropact.report.pictures import Picture, left_out, of_table
from dropact.report.tables import Report, Table

OVERVIEW = "The paper's test errors, and beside them ours: mean ± half of the 95 % t-interval over n seeds."
RUNS = (
    "Errors in percent. The last epoch's is the result; the best epoch's is not used. The name is that of the run's "
    "directory, and of everything that decides its outcome; the command is that of its environment below."
)
STYLE, SCRIPT = (files("dropact.report").joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
# The browser is told what the page needs, which is nothing from anywhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def bullets(items: Sequence[str], kind: str = "") -> str:
    """A list, escaped, what stands in back-ticks as code; nothing where there are no items."""
    if not items:
        return ""
    inner = "".join("<li>" + re.sub("`([^`]+)`", r"<code>\1</code>", escape(item)) + "</li>" for item in items)
    return f'<ul class="{kind}">{inner}</ul>\n' if kind else f"<ul>{inner}</ul>\n"


def _cell(text: str) -> str:
    """What belongs together is not broken between lines: an interval, a mean and its ±, a sign and its number."""
    return escape(re.sub(r"\[[^\]]*\]| ± |< ", lambda found: found[0].replace(" ", "\u00a0"), text))


def html_table(grid: Grid, caption: str) -> str:
    """A table that the page's script sorts, and that becomes a list of cards on a narrow screen."""
    sides = [' class="words"' if words else "" for words in grid.in_words]
    head = "".join(
        f'<th scope="col" role="columnheader"{side}>{escape(heading)}</th>'
        for heading, side in zip(grid.headings, sides, strict=True)
    )
    body = ""
    for first, *rest in grid.rows:
        body += f'<tr role="row"><th scope="row" role="rowheader">{escape(first)}</th>'
        for heading, cell, side in zip(grid.headings[1:], rest, sides[1:], strict=True):
            body += f'<td role="cell"{side} data-label="{escape(heading)}"><span>{_cell(cell)}</span></td>'
        body += "</tr>\n"
    # The roles are those of the elements; they are said because the narrow layout changes `display`, which drops them.
    # A table that is too wide for its page scrolls in a frame of its own, which the keyboard reaches.
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(grid.headings[0])} and what belongs to it">'
        f'<table role="table"><caption>{escape(caption)}</caption>\n'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n<tbody role="rowgroup">{body}</tbody></table>'
        "</div>\n"
    )


def figures(pictures: Sequence[Picture]) -> str:
    """The drawings side by side where there is room."""
    drawn = "".join(f"<figure{' class=wide' if picture.wide else ''}>{picture.svg}</figure>\n" for picture in pictures)
    return f'<div class="figures">{drawn}</div>\n' if drawn else ""


def _section(table: Table, number: int, report: Report) -> str:
    mark = schedule_mark(table.setting)
    marked = f' <span class="mark">{escape(mark)}</span>' if mark else ""
    total = sum(row.test.n for row in table.rows)
    return (
        f'<section id="table{number}">\n<h2>{escape(table.title.removesuffix(f", {mark}"))}{marked}</h2>\n'
        + bullets(reading(table))
        + html_table(of_methods(table), setting_sentence(table.setting, all_seeds(table)))
        + (html_table(equal, budgets.CAPTION) if (equal := budgets.grid(table)) else "")
        + bullets([*budgets.sentences(table), *figure6.sentences(table)])
        + bullets([*table.notes, *left_out(table, number)], "notes")
        + figures(of_table(table, number))
        + f"<details><summary>{'Every run' if total > 1 else 'The run'} ({total})</summary>\n"
        + html_table(of_runs(table, report.environments), RUNS)
        + "</details>\n</section>\n"
    )


def _contents(report: Report) -> str:
    if len(report.tables) == 1:
        return ""
    items = "".join(
        f'<li><a href="#table{number}">{escape(table.title)}</a></li>'
        for number, table in enumerate(report.tables, start=1)
    )
    return f'<nav aria-label="Tables"><ol>{items}</ol></nav>\n'


def _facts(environment: Mapping[str, Any]) -> dict[str, str]:
    """What is known of an environment, by what a reader calls it; of earlier parts of its runs what was otherwise."""
    found = {}
    for name, value in environment.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {version}" for key, version in value.items() if version)
        if name not in ("command", "before") and value not in (None, "", []):
            found[name.replace("_", " ")] = value if isinstance(value, str) else json.dumps(value)
    before = environment.get("before")
    for number, part in enumerate(before if isinstance(before, list) else (), start=1):
        if isinstance(part, dict):
            known = {"command": str(part.get("command")), **_facts(part)}
            other = [f"{name} {value}" for name, value in known.items() if value != found.get(name)]
            found[f"part {number}, earlier"] = "; ".join(other)
    return found


def _environments(environments: Sequence[Mapping[str, Any]]) -> str:
    """What the runs were made with: each command with what is its own, then once what all have in common."""
    facts = [_facts(environment) for environment in environments]
    common = {name: value for name, value in facts[0].items() if all(other.get(name) == value for other in facts)}
    made = ""
    for number, (environment, found) in enumerate(zip(environments, facts, strict=True), start=1):
        made += f"<h3>Environment {number}</h3>\n" if len(facts) > 1 else ""
        made += f"<pre>{escape(str(environment.get('command') or 'not recorded'))}</pre>\n"
        made += _listed({name: value for name, value in found.items() if name not in common})
    return made + ("<h3>All of them</h3>\n" if len(facts) > 1 and common else "") + _listed(common)


def _listed(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in facts.items())
    return f"<dl>{rows}</dl>\n" if rows else ""


def is_page(path: Path) -> bool:
    """Whether the file begins as a `document` does, and may be written anew by the same command."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'content="{POLICY}"'.encode() in file.read(2000)


def document(title: str, body: str, environments: Sequence[Mapping[str, Any]]) -> str:
    """A page around `body`, which is HTML, that ends with what it was made with, if there is something to say of it."""
    made = f"<section>\n<h2>Made with</h2>\n{_environments(environments)}</section>\n" if environments else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}{made}</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def page(report: Report) -> str:
    """The whole page; everything that comes from files is escaped."""
    overview = of_paper(report)
    runs = count(sum(row.test.n for table in report.tables for row in table.rows), "run")
    methods = count(len({row.label for table in report.tables for row in table.rows}), "method")
    settings = count(len(report.tables), "setting")
    verdict = verdicts.sentence(report.tables)
    body = (
        (f"<p><strong>{escape(verdict)}</strong></p>\n" if verdict else "")
        + f"<p>{runs}: {methods} under {settings}.</p>\n"
        + (html_table(overview, OVERVIEW) if overview else "")
        + bullets(report.notes, "notes")
        + _contents(report)
        + "".join(_section(table, number, report) for number, table in enumerate(report.tables, start=1))
        + f"<section>\n<h2>How to read the tables</h2>\n<p>{escape(LEGEND)}</p>\n</section>\n"
    )
    return document(report.title, body, report.environments)
