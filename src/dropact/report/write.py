"""Writes every form of the report into the folder it is about."""

from collections.abc import Mapping
from pathlib import Path

from dropact.experiments.errors import RecordError
from dropact.experiments.files import write_text
from dropact.report.figures import overview
from dropact.report.page import page
from dropact.report.svg import standalone
from dropact.report.tables import Report
from dropact.report.text import comma_separated, markdown


def write_report(report: Report, folder: Path) -> list[Path]:
    """table.md, table.csv, report.html, and comparison.svg (comparison-2.svg ... for further settings).

    Raises:
        RecordError: the folder cannot be written.
    """
    texts = {"table.md": markdown(report), "table.csv": comma_separated(report), "report.html": page(report)}
    for number, table in enumerate(report.tables, start=1):
        name = "comparison" if number == 1 else f"comparison-{number}"
        texts[f"{name}.svg"] = standalone(overview(table, name))
    return write_texts(texts, folder)


def write_texts(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Each text under its name, the folder made if it is not there; the paths, in that order.

    Raises:
        RecordError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written ({error.strerror})") from None
    return [folder / name for name in texts]
