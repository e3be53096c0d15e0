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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import torch
from torch import Tensor

from dropact.experiments.config import RunConfig, key_of
from dropact.experiments.environment import Environment
from dropact.experiments.errors import ConfigError, DivergedError, RecordError
from dropact.experiments.files import PARTIAL, named, open_unfollowed, parsed, read_text, write_atomically, write_text
from dropact.experiments.schema import Count, Measured, Percent, Positive, Seconds

RUNS = "runs"  # the folder of such directories
CONFIG, ENVIRONMENT, METRICS = "config.json", "environment.json", "metrics.jsonl"
READINGS = "readings.jsonl"
TIMING, WEIGHTS, RESULT, LOCK = "timing.json", "weights.pt", "result.json", "lock"
DIVERGED = "diverged.json"

T = TypeVar("T")


class Epoch(TypedDict):
    """A line of metrics.jsonl."""

    epoch: Positive
    train_loss: Measured
    train_error: Percent
    validation_error: Percent | None
    test_error: Percent | None


class Shift(TypedDict):
    """A line of readings.jsonl."""

    step: Count
    site: str
    variance_shift: Measured | None


class RunTimes(TypedDict):
    """timing.json"""

    total_seconds: Seconds
    epoch_seconds: list[Seconds]
    end_seconds: NotRequired[Seconds]


class Recalibrated(TypedDict, total=False):
    """What a run that asks for it comes to with BatchNorm's statistics recomputed."""

    recalibrated_test_error: Percent


class Result(Recalibrated):
    """What a run comes to: errors in percent."""

    epochs: Positive
    test_error: Percent
    validation_error: Percent | None
    train_error: Percent
    best_epoch: Positive
    best_test_error: Percent


class SealedResult(Result):
    """The same in result.json, with the checksums of the files beside it."""

    metrics_sha256: str
    readings_sha256: NotRequired[str]


class Divergence(TypedDict):
    """diverged.json"""

    step: Count
    epoch: Positive
    error: str


@dataclass(frozen=True)
class Run:
    """A finished run, read and checked."""

    config: RunConfig
    environment: Environment
    metrics: list[Epoch]
    result: SealedResult
    readings: Sequence[Shift] = ()


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


def _lines(kind: type[T], text: str, path: Path) -> list[T]:
    return [parsed(kind, line, path, i) for i, line in enumerate(text.splitlines(), start=1)]


def _metrics(text: str, path: Path, config: RunConfig) -> list[Epoch]:
    metrics = _lines(Epoch, text, path)
    if len(metrics) != config.epochs or any(record["epoch"] != i for i, record in enumerate(metrics, start=1)):
        raise RecordError(f"{path}: damaged, not one line for each epoch from 1 to {config.epochs}")
    for record in metrics:
        expected = {"test_error": config.evaluates(record["epoch"])}
        expected["validation_error"] = expected["test_error"] and config.train_on == "train"
        for name, there in expected.items():
            if (record.get(name) is not None) != there:
                kind = "a number" if there else "null"
                raise RecordError(f"{path} line {record['epoch']}: damaged, {name}: accepted by the config: {kind}")
    return metrics


def last_and_best(metrics: Sequence[Epoch]) -> tuple[float, int, float]:
    """The test error of the last epoch, and the best epoch with its own."""
    errors = {record["epoch"]: error for record in metrics if (error := record["test_error"]) is not None}
    best = min(errors, key=errors.__getitem__)
    return errors[len(metrics)], best, errors[best]


def _readings(run: RunFiles, config: RunConfig, result: SealedResult) -> list[Shift]:
    if not config.recorded:
        return []
    path, text = run.path(READINGS), run.text(READINGS)
    if _digest(text) != result.get("readings_sha256"):
        raise RecordError(f"{path}: damaged, its checksum is not the one in {RESULT}")
    return _lines(Shift, text, path)


def parsed_config(text: str, path: Path, key: str | None = None) -> RunConfig:
    """The config in the text of config.json; of a run with the key, where one is given.

    Raises:
        RecordError: it is damaged, or of another run.
    """
    values = parsed(dict[str, Any], text, path)
    try:
        config, found = RunConfig.from_dict(values), key_of(values)
    except (ConfigError, KeyError) as error:
        raise RecordError(f"{path}: damaged, {error}") from None
    if key not in (None, found):
        raise RecordError(f"{path}: damaged, its key is {found} and not the directory's name")
    return config


def read_config(run: RunFiles, marked: str = "finished") -> RunConfig:
    """The config of a run.

    Raises:
        RecordError: it is missing or damaged.
    """
    return parsed_config(run.text(CONFIG, marked), run.path(CONFIG), run.key)


def read_run(run: RunFiles | Path) -> Run:
    """A finished run, by its files or its directory. The weights are not needed and not read.

    Raises:
        RecordError: one line naming the file that is missing, damaged or contradicts another.
    """
    run = RunFiles(run, run.name) if isinstance(run, Path) else run
    config = read_config(run)
    text = run.text(METRICS)
    metrics = _metrics(text, run.path(METRICS), config)
    path = run.path(RESULT)
    result = parsed(SealedResult, run.text(RESULT), path)
    if config.recalibrated and "recalibrated_test_error" not in result:
        raise RecordError(f"{path}: damaged, lacks recalibrated_test_error")
    if result["metrics_sha256"] != _digest(text):
        raise RecordError(f"{run.path(METRICS)}: damaged, its checksum is not the one in {RESULT}")
    if (result["test_error"], result["best_epoch"], result["best_test_error"]) != last_and_best(metrics):
        raise RecordError(f"{path}: damaged, its last or best error is not that of {METRICS}")
    environment = parsed(Environment, run.text(ENVIRONMENT), run.path(ENVIRONMENT))
    return Run(config, environment, metrics, result, _readings(run, config, result))


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
    values = parsed(Divergence, run.text(DIVERGED, "diverged"), run.path(DIVERGED))
    return Diverged(read_config(run, "diverged"), values["step"], values["epoch"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class RunWriter:
    """Writes a run as it goes; what an unfinished run left in the directory is replaced."""

    def __init__(self, directory: Path, config: RunConfig, environment: Environment) -> None:
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
        with named(self._directory / METRICS):  # what could not be written is tried once more
            self._metrics.close()

    def epoch(self, record: Epoch) -> None:
        """Appends the record of one epoch, visible to other processes at once."""
        self._lines.append(json.dumps(record, allow_nan=False) + "\n")
        with named(self._directory / METRICS):
            self._metrics.write(self._lines[-1])
            self._metrics.flush()

    def diverged(self, error: DivergedError) -> None:
        """Notes that the run has no result, so that nobody takes the others for all that were begun."""
        values: Divergence = {"step": error.step, "epoch": error.epoch, "error": str(error)}
        write_text(self._directory / DIVERGED, json.dumps(values, indent=2) + "\n")

    def finish(
        self,
        result: Result,
        state: dict[str, Tensor],
        seconds: list[float],
        readings: Sequence[Shift] = (),
        end_seconds: float = 0.0,
    ) -> None:
        """Writes weights and times, then the result that marks the run as finished."""
        with named(self._directory / METRICS):
            os.fsync(self._metrics.fileno())
        weights = io.BytesIO()
        torch.save(state, weights)  # in memory: torch makes another error of a full disk
        write_atomically(self._directory / WEIGHTS, lambda file: file.write(weights.getbuffer()))
        total = sum(seconds) + end_seconds
        timing: RunTimes = {"total_seconds": total, "epoch_seconds": seconds, "end_seconds": end_seconds}
        write_text(self._directory / TIMING, json.dumps(timing, indent=2) + "\n")
        sealed: SealedResult = {**result, "metrics_sha256": _digest("".join(self._lines))}
        if self._recorded:
            text = "".join(json.dumps(reading, allow_nan=False) + "\n" for reading in readings)
            write_text(self._directory / READINGS, text)
            sealed["readings_sha256"] = _digest(text)
        (self._directory / DIVERGED).unlink(missing_ok=True)
        write_text(self._directory / RESULT, json.dumps(sealed, indent=2, allow_nan=False) + "\n")
