"""Finished runs of a folder in two files, and back, without loss: what is kept of a study for good.

    study.json    what the folder belongs to, and the environments that its runs were made in
    runs.jsonl    one line a run: its config, the place of its environment, metrics, readings, times and result

Weights and checkpoints are not kept. A packed folder is read, reported, verified and gone on with as any other: runs
that are added lie in `runs/` beside it, and are packed together with it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from dropact.experiments.errors import RecordError
from dropact.experiments.files import parsed, read_text, write_text
from dropact.experiments.records import (
    CONFIG,
    DIVERGED,
    ENVIRONMENT,
    METRICS,
    READINGS,
    RESULT,
    RUNS,
    TIMING,
    RunFiles,
    read_diverged,
    read_run,
)
from dropact.experiments.schema import Accepts, Count

STUDY, PACKED = "study.json", "runs.jsonl"
Stored = dict[str, Any]  # an object, columns by name, or {"text": what was written in another way}


class PackedRun(TypedDict):
    """A line of runs.jsonl: the files of one run."""

    key: Annotated[str, Accepts("the name of a directory", lambda key: Path(key).name == key)]
    environment: Count
    config: Stored
    metrics: Stored
    readings: NotRequired[Stored]
    timing: NotRequired[Stored]
    result: NotRequired[Stored]
    diverged: NotRequired[Stored]


class PackedStudy(TypedDict):
    """study.json"""

    format: Literal["dropact study 1"]
    environments: list[Stored]
    comparison: NotRequired[Stored]
    reproduction: NotRequired[Stored]


_DOCUMENTS = {"config": CONFIG, "timing": TIMING, "result": RESULT, "diverged": DIVERGED}
_TABLES = {"metrics": METRICS, "readings": READINGS}


def _document(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _lines(columns: Mapping[str, Sequence[Any]]) -> str:
    rows = zip(*columns.values(), strict=True)
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)


def _columns(text: str) -> dict[str, list[Any]]:
    rows = [json.loads(line) for line in text.splitlines()]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _kept(text: str, read: Callable[[str], Any], write: Callable[[Any], str]) -> Any:
    """A file as a value that gives its very bytes again; the text itself where it was written in another way."""
    try:
        value = read(text)
        if write(value) == text:
            return value
    except (ValueError, KeyError, TypeError):
        pass
    return {"text": text}


def _text(value: Any, write: Callable[[Any], str]) -> str:
    return str(value["text"]) if value.keys() == {"text"} else write(value)


def packed_runs(folder: Path) -> dict[str, RunFiles]:
    """The packed runs of a folder by key; none where it holds none.

    Raises:
        RecordError: one of its files is damaged.
    """
    path = folder / PACKED
    if not path.exists():
        return {}
    environments = read_study(folder).get("environments", [])
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        values: dict[str, Any] = {**parsed(PackedRun, line, path, number)}
        if values["environment"] >= len(environments):
            of = f"{values['environment']} of {len(environments)} in {STUDY}"
            raise RecordError(f"{path} line {number}: damaged, environment {of}")
        try:
            texts = {name: _text(values[field], _document) for field, name in _DOCUMENTS.items() if field in values}
            texts |= {name: _text(values[field], _lines) for field, name in _TABLES.items() if field in values}
        except (TypeError, ValueError):
            raise RecordError(f"{path} line {number}: damaged, its columns are not of one length") from None
        texts[ENVIRONMENT] = _text(environments[values["environment"]], _document)
        found[values["key"]] = RunFiles(path, values["key"], texts)
    return found


def read_study(folder: Path) -> Mapping[str, Any]:
    """What stands beside the packed runs of a folder; nothing where it holds none.

    Raises:
        RecordError: the file is damaged.
    """
    path = folder / STUDY
    return parsed(PackedStudy, read_text(path), path) if path.exists() else {}


def runs_in(folder: Path) -> list[RunFiles]:
    """The runs of a folder by key, in a directory of their own or packed; an unfinished directory beside a packed run
    does not count.

    Raises:
        RecordError: a packed file is damaged.
    """
    found = packed_runs(folder)
    runs = folder / RUNS
    for path in runs.iterdir() if runs.is_dir() else ():
        if not path.name.startswith(".") and path.name not in found:  # what a file manager leaves (.DS_Store)
            found[path.name] = RunFiles(path, path.name)
    return [found[key] for key in sorted(found)]


def pack(runs: Iterable[RunFiles], claim: Mapping[str, Any], folder: Path) -> int:
    """Writes finished and diverged runs into a folder, beside those that are packed there already.

    Args:
        claim: what the runs belong to, by the stem of its file ("comparison", "reproduction"); may be empty.

    Returns:
        How many runs the folder holds packed now.

    Raises:
        RecordError: a run is damaged, or the folder holds another record of it.
    """
    there = packed_runs(folder)
    for run in runs:
        if not (run.has(RESULT) or run.has(DIVERGED)):
            continue
        read_run(run) if run.has(RESULT) else read_diverged(run)
        if run.key in there and any(there[run.key].text(name) != run.text(name) for name in (CONFIG, METRICS)):
            raise RecordError(f"{run.where}: another record of this run is packed in {folder}")
        there.setdefault(run.key, run)
    environments: list[Any] = []
    lines = []
    for key in sorted(there):
        run = there[key]
        environment = _kept(run.text(ENVIRONMENT), json.loads, _document)
        if environment not in environments:
            environments.append(environment)
        values: dict[str, Any] = {"key": key, "environment": environments.index(environment)}
        for field, name in _DOCUMENTS.items():
            if run.has(name) and not (field == "diverged" and run.has(RESULT)):
                values[field] = _kept(run.text(name), json.loads, _document)
        values |= {field: _kept(run.text(name), _columns, _lines) for field, name in _TABLES.items() if run.has(name)}
        lines.append(json.dumps(values, separators=(",", ":")) + "\n")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / STUDY, _document({"format": "dropact study 1", **claim, "environments": environments}))
        write_text(folder / PACKED, "".join(lines))
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written ({error.strerror})") from None
    return len(lines)


def unpack(folder: Path, into: Path) -> int:
    """Writes the packed runs of a folder as directories, with what they belong to; how many.

    Raises:
        RecordError: nothing is packed there, or one of the directories is there already.
    """
    packed, study = packed_runs(folder), read_study(folder)
    if not packed:
        raise RecordError(f"{folder}: no {PACKED} in it, accepted: a folder that `dropact pack` wrote")
    for key in packed:
        if (into / RUNS / key).exists():
            raise RecordError(f"{into / RUNS / key}: is there already; choose another folder to unpack into")
    try:
        for key, run in packed.items():
            (into / RUNS / key).mkdir(parents=True)
            for name in sorted(run.packed or (), key=lambda name: name == RESULT):  # which marks the run as finished
                write_text(into / RUNS / key / name, run.text(name))
        for stem, values in study.items():
            if stem not in ("format", "environments"):
                write_text(into / f"{stem}.json", _document(values))
    except OSError as error:
        raise RecordError(f"{into}: cannot be written ({error.strerror})") from None
    return len(packed)
