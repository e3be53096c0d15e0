"""From the finished runs of a folder to the rows of its tables; runs that differ in setting are never mixed."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dropact.experiments.comparison import Comparison, read_claim
from dropact.experiments.config import RunConfig, schedule_mark
from dropact.experiments.convergence import RULE, WINDOW, epochs_to_converge
from dropact.experiments.errors import NoRunsError
from dropact.experiments.files import check_is_folder
from dropact.experiments.grid import diverged_runs, finished_runs
from dropact.experiments.methods import label, parts_of, rank
from dropact.experiments.packed import runs_in
from dropact.experiments.recipes import Row as Line
from dropact.experiments.records import Diverged, Run
from dropact.experiments.reproduction import Reproduction
from dropact.experiments.statistics import Summary, paired_difference, summarise
from dropact.report.captions import differing, row_label, told_apart
from dropact.report.paper import Paper
from dropact.report.tables import BASELINE, MethodResult, Report, Table, corrected, seed_ranges

TITLED = ("dataset", "network", "epochs", "full_epochs")  # fields that the title of a table says
RECOMPUTED = (
    "BatchNorm recomputed: the same weights, with BatchNorm's statistics taken anew from the training images with the "
    "activations of evaluation; in brackets the paired difference to the test error, with its 95 % interval."
)


def _values(runs: Mapping[int, Run], name: str) -> dict[int, float]:
    results: dict[int, Mapping[str, Any]] = {seed: run.result for seed, run in runs.items()}
    return {seed: result[name] for seed, result in results.items()}


def _mean(runs: Mapping[int, Run], name: str) -> Summary:
    return summarise(list(_values(runs, name).values()))


def _converged(runs: Mapping[int, Run], config: RunConfig) -> Summary | None:
    every = ([record["validation_error"] for record in run.metrics] for run in runs.values())
    curves = [[error for error in curve if error is not None] for curve in every]
    if config.schedule != "constant" or config.epochs < WINDOW or any(len(each) < config.epochs for each in curves):
        return None
    return summarise([epochs_to_converge(curve) for curve in curves])


def _row(runs: Mapping[int, Run], line: Line | None) -> MethodResult:
    """One method by itself; `line` is where the paper has it."""
    config = next(iter(runs.values())).config
    again = _values(runs, "recalibrated_test_error") if config.recalibrated else {}
    return MethodResult(
        label=row_label(config),
        method=config.method,
        runs=runs,
        test=_mean(runs, "test_error"),
        best=_mean(runs, "best_test_error"),
        train=_mean(runs, "train_error"),
        printed=line.printed.get(config.method) if line else None,
        converged=_converged(runs, config),
        recalibrated=summarise(list(again.values())) if again else None,
        recalibrated_difference=paired_difference(again, _values(runs, "test_error")) if again else None,
    )


def _on_lines(rows: Sequence[MethodResult], lines: Sequence[Line | None]) -> list[MethodResult]:
    """The rows of a figure: each line of the recipe is a point of it, or one for each of its methods."""
    methods = Counter(line.name for line in lines if line)
    return [
        replace(
            row,
            label=f"{line.label}: {row_label(row.config, beside=line.label)}",
            short=line.label + (f": {label(row.method, row.config.network)}" if methods[line.name] > 1 else ""),
        )
        if line
        else row
        for row, line in zip(rows, lines, strict=True)
    ]


def _reference(row: MethodResult, rows: Sequence[MethodResult]) -> MethodResult | None:
    """What a method is compared with: a combination with itself less its last part, else the baseline."""
    if row.method == BASELINE:
        return None
    *less, _ = parts_of(row.method)
    for other in rows:
        if list(parts_of(other.method)) == less and other.config.options.items() <= row.config.options.items():
            return other
    return next((other for other in rows if other.method == BASELINE), None)


def _compared(row: MethodResult, rows: Sequence[MethodResult]) -> MethodResult:
    reference = _reference(row, rows)
    if reference is None:
        return row
    return replace(
        row,
        difference=paired_difference(row.errors, reference.errors),
        reference=reference.label,
        printed_difference=row.printed.error - reference.printed.error if row.printed and reference.printed else None,
    )


def _corrected(tables: Sequence[Table]) -> list[Table]:
    """The tables with Holm's p-values over all comparisons in them."""
    found = iter(corrected([row.difference for table in tables for row in table.rows]))
    return [replace(table, rows=[replace(row, corrected=next(found)) for row in table.rows]) for table in tables]


def _table_notes(rows: Sequence[MethodResult]) -> list[str]:
    notes = [RULE] if any(row.converged for row in rows) else []
    if any(row.recalibrated for row in rows):
        notes.append(RECOMPUTED)
    if not any(row.method == BASELINE for row in rows):
        notes.append("There is no baseline among these runs, hence no difference to it.")
    if len({row.seeds for row in rows}) > 1:
        listed = "; ".join(f"{row.label}: {seed_ranges(row.seeds)}" for row in rows)
        notes.append(
            f"The methods do not have the same seeds ({listed}): a difference uses only the seeds it shares "
            "with what it is compared with."
        )
    for row in rows:
        for name, summary in (("test error", row.test), (f"difference to {row.reference}", row.difference)):
            if summary and summary.note:
                notes.append(f"{row.label}, {name}: {summary.note}.")
    return notes


def _schedule_notes(setting: Mapping[str, Any], paper: Paper | None) -> list[str]:
    mark = schedule_mark(setting)
    if not mark:
        return []
    drops = "; the learning rate drops at the same shares of it" if setting["milestones"] else ""
    beside = " This is not the paper's experiment: the full schedule may come out otherwise." if paper else ""
    return [f"Schedule {mark}{drops}.{beside}"]


def _table(runs: Sequence[Run], paper: Paper | None) -> Table:
    kinds: dict[tuple[tuple[int, ...], tuple[float, ...]], dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        options = sorted(run.config.options.items())
        kinds.setdefault((rank(run.config.method), tuple(value for _, value in options)), {})[run.config.seed] = run
    groups = [kinds[kind] for kind in sorted(kinds)]
    lines = [paper.row(next(iter(group.values())).config) if paper else None for group in groups]
    rows = [_row(group, line) for group, line in zip(groups, lines, strict=True)]
    named = {line.name: line.label for line in lines if line}
    if len(named) > 1:
        rows = _on_lines(rows, lines)
    rows = [_compared(row, rows) for row in rows]
    setting = runs[0].config.setting
    notes = [*_schedule_notes(setting, paper), *dict.fromkeys(note for line in lines if line for note in line.notes)]
    return Table(
        setting, rows, [*notes, *_table_notes(rows)], label=next(iter(named.values())) if len(named) == 1 else ""
    )


def _environment_notes(environments: Sequence[Mapping[str, Any]]) -> list[str]:
    first = environments[0]
    fields = [
        "environment of an earlier part" if field == "before" else field.replace("_", " ")
        for field in dict.fromkeys(field for made in environments for field in made)
        if field != "command" and any(made.get(field) != first.get(field) for made in environments)
    ]
    return (
        [f"The runs were not all made in the same environment: they differ in {', '.join(fields)}."] if fields else []
    )


def _told_apart(tables: Sequence[Table], fields: Sequence[str]) -> list[Table]:
    """The tables with what tells them apart in their titles, as far as these do not say it already."""
    more = [field for field in fields if field not in TITLED]
    return [replace(table, apart=told_apart(table.setting, more)) for table in tables]


def _setting_notes(tables: Sequence[Table], fields: Sequence[str]) -> list[str]:
    if len(tables) == 1:
        return []
    listed = ", ".join(fields).replace("_", " ")
    return [
        f"The folder holds runs of {len(tables)} settings (they differ in {listed}): each has a table of its own, and "
        "nothing is compared across them."
    ]


def _diverged_notes(lost: Sequence[Diverged], runs: Sequence[Run]) -> list[str]:
    """Which runs are missing from every mean because they diverged; named by the setting where there are several."""
    if not lost:
        return []
    fields = differing([run.config.setting for run in lost] + [run.config.setting for run in runs])
    seeds: dict[str, list[int]] = {}
    for run in lost:
        where = ", ".join(filter(None, (row_label(run.config), told_apart(run.config.setting, fields))))
        seeds.setdefault(where, []).append(run.config.seed)
    listed = "; ".join(f"{where}, seed{'s' * (len(of) > 1)} {seed_ranges(of)}" for where, of in seeds.items())
    return [
        f"{len(lost)} of {len(lost) + len(runs)} runs diverged, with a loss or weights that are no longer finite, and "
        f"have no result: {listed}. Means and differences are over the others, and say nothing of how often it happens."
    ]


def _data_note(environment: Mapping[str, Any]) -> str:
    """In one line and without what would move a terminal's cursor; a record may come from anybody."""
    return "".join(filter(str.isprintable, environment["data_note"]))


def collect(folder: Path, known: Sequence[Run] = ()) -> Report:
    """The report of the finished runs in `folder`/runs, of which `known` have been read already.

    Raises:
        NoRunsError: no run in it is finished.
        RecordError: no such folder, or a damaged file.
    """
    check_is_folder(folder)
    comparison, reproduction = read_claim(Comparison, folder), read_claim(Reproduction, folder)
    paper = Paper.of(reproduction, folder) if reproduction else None
    there = runs_in(folder)
    runs, lost = finished_runs(there, known), diverged_runs(there)
    if not runs:
        ended = f", {len(lost)} diverged" if lost else ""
        raise NoRunsError(f"{folder}: no finished run in it{ended}")
    by_setting: dict[str, list[Run]] = {}
    for run in runs:
        by_setting.setdefault(json.dumps(run.config.setting, sort_keys=True), []).append(run)
    tables = [_table(by_setting[setting], paper) for setting in sorted(by_setting)]
    if paper is not None:  # the paper's order, and one table of the paper is one family of comparisons
        tables = _corrected(sorted(tables, key=lambda table: paper.place(table.rows[0].config)))
        notes = [f"Paper: {paper.recipe.source}.", *paper.recipe.notes]
    else:
        fields = differing([table.setting for table in tables])
        tables = [table for one in _told_apart(tables, fields) for table in _corrected([one])]
        notes = _setting_notes(tables, fields)
    environments: list[Mapping[str, Any]] = []
    for run in runs:
        if run.environment not in environments:
            environments.append(run.environment)
    notes += [f"Data: {note}." for note in dict.fromkeys(map(_data_note, environments)) if note]
    notes += _environment_notes(environments)
    notes += _diverged_notes(lost, runs)
    keys = {run.config.key for run in runs} | {run.config.key for run in lost}
    claim = comparison or reproduction
    # Without a plan, what somebody has begun was asked for.
    asked = {config.key for config in claim.configs()} if claim else {run.key for run in there}
    if missing := len(asked - keys):
        kind = f"of this {claim.file.removesuffix('.json')}" if claim else "begun here"
        notes.append(f"{missing} of {len(asked)} runs {kind} are not finished; p is corrected without them.")
    return Report(tables, notes, environments, paper, len(asked | keys), len(lost))
