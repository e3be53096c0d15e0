"""How far the runs of a folder have come, read from outside: nothing is written, locked or waited for."""

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dropact.experiments.comparison import Comparison, read_claim
from dropact.experiments.config import RunConfig
from dropact.experiments.errors import RecordError
from dropact.experiments.files import check_is_folder, parsed, read_text
from dropact.experiments.lock import Holder
from dropact.experiments.packed import runs_in
from dropact.experiments.records import (
    LOCK,
    METRICS,
    RESULT,
    TIMING,
    Epoch,
    RunFiles,
    RunTimes,
    has_diverged,
    read_config,
)
from dropact.experiments.reproduction import Reproduction

WAITING, RUNNING, STOPPED, DIVERGED, FINISHED = "waiting", "running", "stopped", "diverged", "finished"
ENDED = (DIVERGED, FINISHED)  # nothing more will come of it unless it is asked for again


@dataclass(frozen=True)
class RunProgress:
    """One run: where it stands, the last epoch's record if there is one, and the seconds that a finished one took.

    `state` is "waiting" (planned, not begun), "running" (a process of this machine that lives, or one of another,
    holds it), "stopped" (begun, held by none), "diverged" (no longer finite when last trained) or "finished".
    """

    config: RunConfig
    state: str
    last: Epoch | None = None
    seconds: float | None = None

    @property
    def setting(self) -> str:
        """What it shares with the runs it may be averaged with, to be compared."""
        return json.dumps(self.config.setting, sort_keys=True)


def _last_epoch(run: RunFiles, config: RunConfig) -> Epoch | None:
    """The last whole line, as another process may be writing the next."""
    try:
        lines = run.text(METRICS).split("\n")[:-1]
        last = parsed(Epoch, lines[-1], run.path(METRICS), len(lines)) if lines else None
    except RecordError:
        return None
    return last if last and last["epoch"] <= config.epochs else None


def _is_held(path: Path) -> bool:
    """Whether the process named in the lock lives. Asked of the file: trying the lock could keep that process out."""
    try:
        holder = parsed(Holder, read_text(path), path)
        if holder["host"] == socket.gethostname():
            os.kill(holder["pid"], 0)
    except PermissionError:  # it lives, and is another user's
        return True
    except (OSError, RecordError, OverflowError):
        return False
    return True


def _seconds(run: RunFiles) -> float | None:
    try:
        return parsed(RunTimes, run.text(TIMING), run.path(TIMING))["total_seconds"]
    except RecordError:
        return None


def _of(run: RunFiles | None, config: RunConfig) -> RunProgress:
    if run is None:
        return RunProgress(config, WAITING)
    last = _last_epoch(run, config)
    if run.has(RESULT):
        return RunProgress(config, FINISHED, last, _seconds(run))
    if run.packed is None and _is_held(run.where / LOCK):
        return RunProgress(config, RUNNING, last)
    return RunProgress(config, DIVERGED if has_diverged(run) else STOPPED, last)


def progress_of(folder: Path) -> list[RunProgress]:
    """Every run that the folder's comparison or reproduction plans, in the order of training, then any other run.

    Raises:
        RecordError: no such folder, neither a plan nor a run in it, or a damaged plan.
    """
    check_is_folder(folder)
    claim = read_claim(Comparison, folder) or read_claim(Reproduction, folder)
    configs = {config.key: config for config in claim.configs()} if claim else {}
    runs = {run.key: run for run in runs_in(folder)}
    for key, run in runs.items():
        if key not in configs:
            try:
                configs[key] = read_config(run)
            except RecordError:
                continue  # just begun, or not a run
    if not configs:
        accepted = "the --out of compare, of train, or of reproduce but for figure3"
        raise RecordError(f"{folder}: neither a plan nor a run in it, accepted: {accepted}")
    return [_of(runs.get(key), config) for key, config in configs.items()]


def seconds_left(found: Sequence[RunProgress]) -> float | None:
    """Time until all are finished, if as many run at once as now and take as long as those of their kind took.

    None where none is running, or none of a kind is finished yet.
    """
    kinds: dict[tuple[str, str], list[float]] = {}  # by method and setting
    for run in found:
        if run.seconds is not None:
            kinds.setdefault((run.config.method, run.setting), []).append(run.seconds)
    at_once = sum(run.state == RUNNING for run in found)
    left = 0.0
    for run in found:
        if run.state in ENDED:
            continue
        took = kinds.get((run.config.method, run.setting))
        if took is None or not at_once:
            return None
        done = run.last["epoch"] / run.config.epochs if run.last else 0.0
        left += sum(took) / len(took) * (1 - done)
    return left / at_once if at_once else None
