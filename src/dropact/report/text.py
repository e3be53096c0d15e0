"""The report as Markdown for readers and CSV for programs."""

import csv
import io

from dropact.experiments.statistics import Summary
from dropact.report.collect import Report, Row, Table, seed_ranges
from dropact.report.words import HEADINGS, LEGEND, all_seeds, cells, setting_sentence


def _markdown_table(table: Table) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in cells(row)) + " |" for row in table.rows]
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """Every table with its setting and notes, then the legend."""
    parts = []
    for table in report.tables:
        parts += [f"**{table.title}**", _markdown_table(table), setting_sentence(table.setting, all_seeds(table))]
        parts += [f"Note: {note}" for note in table.notes]
    parts += [f"Note: {note}" for note in report.notes]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def _numbers(name: str, summary: Summary | None) -> dict[str, object]:
    values = (summary.n, summary.mean, summary.sd, summary.low, summary.high) if summary else (None,) * 5
    return dict(zip((f"{name}_{part}" for part in ("n", "mean", "sd", "low", "high")), values, strict=True))


def _record(table: Table, row: Row) -> dict[str, object]:
    options = next(iter(row.runs.values())).config.options
    return {
        **{field: table.setting[field] for field in ("dataset", "network", "epochs")},
        "method": row.method,
        "options": " ".join(f"{name}={value!r}" for name, value in options.items()),
        "seeds": seed_ranges(row.seeds),
        **_numbers("test_error", row.test),
        **_numbers("difference", row.difference),
        "p_value": row.difference.p_value if row.difference else None,
        **_numbers("best_epoch_test_error_not_used", row.best),
        **_numbers("train_error", row.train),
    }


def comma_separated(report: Report) -> str:
    """One line per method and setting, in full precision; errors in percent, empty where there is no value."""
    records = [_record(table, row) for table in report.tables for row in table.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
