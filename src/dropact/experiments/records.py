"""One run = one directory, named by the key of its config.

    config.json        the config, every field
    environment.json   versions, hardware, git revision, checksum of the data, command; "before": those of earlier
                       processes that trained a part of the run, where they differ
    metrics.jsonl      one line per epoch; no times, so that equal runs give equal bytes
    readings.jsonl     where the config asks for it: the variance shift of a module at a step, one line for each
    timing.json        seconds per epoch, and of what followed the last one
    weights.pt         final weights, a state_dict in the plain network's names (load with weights_only=True)
    result.json        written last: its presence says that the run is finished
    diverged.json      instead of it where loss or weights were no longer finite when the run was last trained: the
                       step (from 0), its epoch (from 1) and the sentence; gone once the run is finished

A directory without result.json is unfinished; its run goes on from the checkpoint in it (see checkpoint.py), or from
the beginning, and everything else in it is written anew. While a process trains it, `lock` names that process. A
finished directory is read with suspicion and its files are never written to.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropact.experiments.config import RunConfig, key_of
from dropact.experiments.errors import ConfigError, DivergedError, RecordError
from dropact.experiments.files import PARTIAL, open_unfollowed, write_atomically, write_text

RUNS = "runs"  # the folder of such directories
CONFIG, ENVIRONMENT, METRICS = "config.json", "environment.json", "metrics.jsonl"
READINGS = "readings.jsonl"
TIMING, WEIGHTS, RESULT, LOCK = "timing.json", "weights.pt", "result.json", "lock"
DIVERGED = "diverged.json"
PERCENTS = ("test_error", "train_error", "best_test_error")


@dataclass(frozen=True)
class Run:
    """A finished run, read and checked."""

    config: RunConfig
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any]
    readings: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class RunFiles:
    """The files of one run: in a directory, or packed with others (see packed.py), then by name in `packed`."""

    where: Path
    key: str
    packed: Mapping[str, str] | None = None

    def has(self, name: str) -> bool:
        return (self.where / name).exists() if self.packed is None else name in self.packed

    def path(self, name: str) -> Path:
        """What an error calls it."""
        return self.where / name if self.packed is None else self.where / self.key / name

    def text(self, name: str, marked: str = "finished") -> str:
        """Of a file that must be there, as the run is marked so.

        Raises:
            RecordError: it is missing or cannot be read.
        """
        if self.packed is None:
            return read_text(self.where / name, f"missing; the run is marked as {marked}")
        if name not in self.packed:
            raise RecordError(f"{self.path(name)}: missing; the run is marked as {marked}")
        return self.packed[name]


def is_finished(directory: Path) -> bool:
    """Whether the run in `directory` was finished; the directory need not exist.

    Raises:
        RecordError: `directory` is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise RecordError(f"{directory}: a file, where the directory of a run should be")
    return (directory / RESULT).exists()


def read_text(path: Path, missing: str = "missing") -> str:
    """A file of a record; an error says `missing` of one that is not there.

    Raises:
        RecordError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise RecordError(f"{path}: damaged, not an ordinary file")  # a pipe would be waited for
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{path}: {missing}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: damaged, cannot be read ({type(error).__name__})") from None


def parse_object(text: str, path: Path, where: str = "") -> dict[str, Any]:
    """The JSON object in `text`, or a RecordError naming `path`."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{path}{where}: damaged, not JSON ({error})") from None
    except RecursionError:
        raise RecordError(f"{path}{where}: damaged, JSON nested too deep") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}{where}: damaged, not a JSON object")
    return value


def is_percent(value: object) -> bool:
    """Whether it is a number from 0 to 100."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _checked_metrics(text: str, path: Path, config: RunConfig) -> list[dict[str, Any]]:
    metrics = [parse_object(line, path, f" line {i}") for i, line in enumerate(text.splitlines(), start=1)]
    if [record.get("epoch") for record in metrics] != list(range(1, config.epochs + 1)):
        raise RecordError(f"{path}: damaged, not one line for each epoch from 1 to {config.epochs}")
    for i, record in enumerate(metrics, start=1):
        test = record.get("test_error")
        if not (is_percent(record.get("train_error")) and (is_percent(test) if config.evaluates(i) else test is None)):
            raise RecordError(f"{path} line {i}: damaged, an error is not a number from 0 to 100")
    return metrics


def _checked_readings(run: RunFiles, config: RunConfig, digest: object) -> list[dict[str, Any]]:
    if not config.recorded:
        return []
    path, text = run.path(READINGS), run.text(READINGS)
    if _digest(text) != digest:
        raise RecordError(f"{path}: damaged, its checksum is not the one in {RESULT}")
    return [parse_object(line, path, f" line {i}") for i, line in enumerate(text.splitlines(), start=1)]


def _checked_config(run: RunFiles, marked: str) -> RunConfig:
    path = run.path(CONFIG)
    values = parse_object(run.text(CONFIG, marked), path)
    try:
        key, config = key_of(values), RunConfig.from_dict(values)
    except (ConfigError, KeyError) as error:
        raise RecordError(f"{path}: damaged ({error})") from None
    if key != run.key:
        raise RecordError(f"{path}: damaged, its key is {key} and not the directory's name")
    return config


def read_run(run: RunFiles | Path) -> Run:
    """A finished run, by its files or its directory. The weights are not needed and not read.

    Raises:
        RecordError: one line naming the file that is missing, damaged or contradicts another.
    """
    run = RunFiles(run, run.name) if isinstance(run, Path) else run
    config = _checked_config(run, "finished")
    text = run.text(METRICS)
    metrics = _checked_metrics(text, run.path(METRICS), config)
    path = run.path(RESULT)
    result = parse_object(run.text(RESULT), path)
    if not all(is_percent(result.get(name)) for name in PERCENTS) or "best_epoch" not in result:
        raise RecordError(f"{path}: damaged, lacks {', '.join(PERCENTS)} from 0 to 100 or best_epoch")
    if config.recalibrated and not is_percent(result.get("recalibrated_test_error")):
        raise RecordError(f"{path}: damaged, lacks recalibrated_test_error from 0 to 100")
    if result.get("metrics_sha256") != _digest(text):
        raise RecordError(f"{run.path(METRICS)}: damaged, its checksum is not the one in {RESULT}")
    errors = [record["test_error"] for record in metrics]
    best = min(error for error in errors if error is not None)
    if (result["test_error"], result["best_test_error"], result["best_epoch"]) != (
        errors[-1],
        best,
        errors.index(best) + 1,
    ):
        raise RecordError(f"{path}: damaged, its last or best error is not that of {METRICS}")
    readings = _checked_readings(run, config, result.get("readings_sha256"))
    environment = parse_object(run.text(ENVIRONMENT), run.path(ENVIRONMENT))
    return Run(config, environment, metrics, result, readings)


@dataclass(frozen=True)
class Diverged:
    """A run whose loss or weights were no longer finite at `step` (from 0), in `epoch` (from 1)."""

    config: RunConfig
    step: int
    epoch: int


def has_diverged(run: RunFiles) -> bool:
    """Whether a run has no result, because it diverged when it was last trained."""
    return run.has(DIVERGED) and not run.has(RESULT)


def read_diverged(run: RunFiles) -> Diverged:
    """The record of a run that `has_diverged`.

    Raises:
        RecordError: it is damaged.
    """
    path = run.path(DIVERGED)
    values = parse_object(run.text(DIVERGED, "diverged"), path)
    if not all(isinstance(values.get(name), int) for name in ("step", "epoch")):
        raise RecordError(f"{path}: damaged, lacks step or epoch")
    return Diverged(_checked_config(run, "diverged"), values["step"], values["epoch"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class RunWriter:
    """Writes a run as it goes; what an unfinished run left in the directory is replaced."""

    def __init__(self, directory: Path, config: RunConfig, environment: dict[str, Any]) -> None:
        self._directory = directory
        self._recorded = config.recorded
        self._lines: list[str] = []
        directory.mkdir(parents=True, exist_ok=True)
        for orphan in directory.glob(f"*{PARTIAL}"):  # of a process that was killed
            orphan.unlink(missing_ok=True)
        write_text(directory / CONFIG, config.to_json())
        write_text(directory / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
        handle = open_unfollowed(directory / METRICS, os.O_WRONLY | os.O_TRUNC)
        self._metrics = os.fdopen(handle, "w", encoding="utf-8", newline="\n")

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with self._named():  # what could not be written is tried once more
            self._metrics.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """A full disk does not say which file it was that could not be written."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._directory / METRICS)
            raise

    def epoch(self, record: dict[str, Any]) -> None:
        """Appends the record of one epoch, visible to other processes at once."""
        self._lines.append(json.dumps(record, allow_nan=False) + "\n")
        with self._named():
            self._metrics.write(self._lines[-1])
            self._metrics.flush()

    def diverged(self, error: DivergedError) -> None:
        """Notes that the run has no result, so that nobody takes the others for all that were begun."""
        values = {"step": error.step, "epoch": error.epoch, "error": str(error)}
        write_text(self._directory / DIVERGED, json.dumps(values, indent=2) + "\n")

    def finish(
        self,
        result: dict[str, Any],
        state: dict[str, Tensor],
        seconds: list[float],
        readings: Sequence[dict[str, Any]] = (),
        end_seconds: float = 0.0,
    ) -> None:
        """Writes weights and times, then the result that marks the run as finished."""
        with self._named():
            os.fsync(self._metrics.fileno())
        weights = io.BytesIO()
        torch.save(state, weights)  # in memory: torch makes another error of a full disk
        write_atomically(self._directory / WEIGHTS, lambda file: file.write(weights.getbuffer()))
        total = sum(seconds) + end_seconds
        timing = {"total_seconds": total, "epoch_seconds": seconds, "end_seconds": end_seconds}
        write_text(self._directory / TIMING, json.dumps(timing, indent=2) + "\n")
        marked = {**result, "metrics_sha256": _digest("".join(self._lines))}
        if self._recorded:
            text = "".join(json.dumps(reading, allow_nan=False) + "\n" for reading in readings)
            write_text(self._directory / READINGS, text)
            marked["readings_sha256"] = _digest(text)
        (self._directory / DIVERGED).unlink(missing_ok=True)
        write_text(self._directory / RESULT, json.dumps(marked, indent=2, allow_nan=False) + "\n")
