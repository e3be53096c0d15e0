"""The report as Markdown for readers and CSV for programs."""

import csv
import io
from collections.abc import Sequence

from dropact.experiments.config import schedule_mark
from dropact.experiments.statistics import Summary
from dropact.report import budgets, figure6, grids
from dropact.report.captions import LEGEND, all_seeds, setting_sentence
from dropact.report.tables import MethodResult, Report, Table, seed_ranges

FIRST = ("dataset", "network", "epochs", "full_epochs")  # fields of the setting; the others end the line
COLUMNS = {"schedule": "lr_schedule"}  # what a field is called where its name is another column's


def markdown_table(grid: grids.Grid) -> str:
    aligned = "|".join("---" if words else "---:" for words in grid.in_words)
    lines = ["| " + " | ".join(grid.headings) + " |", f"|{aligned}|"]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in grid.rows]
    return "\n".join(lines)


def markdown_list(sentences: Sequence[str]) -> str:
    return "\n".join(f"* {sentence}" for sentence in sentences)


def markdown(report: Report) -> str:
    """The paper's table, if there is one, every table with its setting and notes, then the legend."""
    parts = [f"**{report.title}**"] if report.paper else []
    overview = grids.of_paper(report)
    if overview is not None:
        parts.append(markdown_table(overview))
    for table in report.tables:
        parts += [f"**{table.title}**", markdown_table(grids.of_methods(table))]
        if (equal := budgets.grid(table)) is not None:
            parts += [markdown_table(equal), budgets.CAPTION]
        parts += figure6.sentences(table)
        parts += [setting_sentence(table.setting, all_seeds(table)), *(f"Note: {note}" for note in table.notes)]
    parts += ["Note: " + note.replace("<", "&lt;") for note in report.notes]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def _numbers(name: str, summary: Summary | None) -> dict[str, object]:
    values = (summary.n, summary.mean, summary.sd, summary.low, summary.high) if summary else (None,) * 5
    return dict(zip((f"{name}_{part}" for part in ("n", "mean", "sd", "low", "high")), values, strict=True))


def _value(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _record(table: Table, row: MethodResult) -> dict[str, object]:
    options = next(iter(row.runs.values())).config.options
    return {
        "row": table.label,
        **{field: table.setting[field] for field in FIRST},
        "schedule": schedule_mark(table.setting) or "full",
        "method": row.method,
        "options": " ".join(f"{name}={value!r}" for name, value in options.items()),
        "seeds": seed_ranges(row.seeds),
        **_numbers("test_error", row.test),
        "paper_test_error": row.printed.error if row.printed else None,
        "paper_spread": row.printed.spread if row.printed else None,
        **_numbers("difference", row.difference),
        "difference_to": row.reference,
        "p_value": row.difference.p_value if row.difference else None,
        "p_corrected": row.corrected,
        "detectable_difference": row.difference.detectable if row.difference else None,
        **_numbers("best_epoch_test_error_not_used", row.best),
        **_numbers("train_error", row.train),
        **_numbers("recalibrated_test_error", row.recalibrated),
        **_numbers("recalibrated_difference", row.recalibrated_difference),
        **_numbers("epochs_to_converge", row.converged),
        "paper_epochs_to_converge": row.printed.epochs[0] if row.printed and row.printed.epochs else None,
        **{COLUMNS.get(field, field): _value(value) for field, value in table.setting.items() if field not in FIRST},
    }


def comma_separated(report: Report) -> str:
    """One line per method and setting, in full precision; errors in percent, empty where there is no value."""
    records = [_record(table, row) for table in report.tables for row in table.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
