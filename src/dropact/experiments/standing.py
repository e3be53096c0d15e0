"""How far the runs of a folder have come, read from outside: nothing is written, locked or waited for."""

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dropact.experiments.comparison import Comparison, read_claim
from dropact.experiments.config import RunConfig
from dropact.experiments.errors import ConfigError, RecordError
from dropact.experiments.packed import runs_in
from dropact.experiments.records import CONFIG, LOCK, METRICS, RESULT, TIMING, RunFiles, has_diverged, is_percent
from dropact.experiments.reproduction import Reproduction

WAITING, RUNNING, STOPPED, DIVERGED, FINISHED = "waiting", "running", "stopped", "diverged", "finished"
ENDED = (DIVERGED, FINISHED)  # nothing more will come of it unless it is asked for again

LONGEST = 1e10  # seconds, three centuries: a longer time was not measured


@dataclass(frozen=True)
class Standing:
    """One run: where it stands, the last epoch's record if there is one, and the seconds that a finished one took.

    `state` is "waiting" (planned, not begun), "running" (a process of this machine that lives, or one of another,
    holds it), "stopped" (begun, held by none), "diverged" (no longer finite when last trained) or "finished".
    """

    config: RunConfig
    state: str
    last: dict[str, Any] | None = None
    seconds: float | None = None

    @property
    def setting(self) -> str:
        """What it shares with the runs it may be averaged with, to be compared."""
        return json.dumps(self.config.setting, sort_keys=True)


def _last_record(run: RunFiles, config: RunConfig) -> dict[str, Any] | None:
    """The last whole line, as another process may be writing the next."""
    try:
        lines = run.text(METRICS).split("\n")[:-1]
        last = json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):  # a RecordError too
        return None
    if not isinstance(last, dict) or last.get("epoch") not in range(1, config.epochs + 1):
        return None
    return last if "test_error" in last and (last["test_error"] is None or is_percent(last["test_error"])) else None


def _is_held(path: Path) -> bool:
    """Whether the process named in the lock lives. Asked of the file: trying the lock could keep that process out."""
    try:
        holder = json.loads(path.read_bytes())
        if holder["host"] == socket.gethostname():
            os.kill(holder["pid"], 0)
    except PermissionError:  # it lives, and is another user's
        return True
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return False
    return True


def _seconds(run: RunFiles) -> float | None:
    try:
        seconds = float(json.loads(run.text(TIMING))["total_seconds"])
        return seconds if 0 <= seconds < LONGEST else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _standing(run: RunFiles | None, config: RunConfig) -> Standing:
    if run is None:
        return Standing(config, WAITING)
    last = _last_record(run, config)
    if run.has(RESULT):
        return Standing(config, FINISHED, last, _seconds(run))
    if run.packed is None and _is_held(run.where / LOCK):
        return Standing(config, RUNNING, last)
    return Standing(config, DIVERGED if has_diverged(run) else STOPPED, last)


def standings(folder: Path) -> list[Standing]:
    """Every run that the folder's comparison or reproduction plans, in the order of training, then any other run.

    Raises:
        RecordError: no such folder, neither a plan nor a run in it, or a damaged plan.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder}: {'a file' if folder.exists() else 'not there'}, accepted: a folder of runs")
    claim = read_claim(Comparison, folder) or read_claim(Reproduction, folder)
    configs = {config.key: config for config in claim.configs()} if claim else {}
    runs = {run.key: run for run in runs_in(folder)}
    for key, run in runs.items():
        if key not in configs:
            try:
                configs[key] = RunConfig.from_dict(json.loads(run.text(CONFIG)))
            except (ValueError, ConfigError):
                continue  # just begun, or not a run
    if not configs:
        accepted = "the --out of compare, of train, or of reproduce but for figure3"
        raise RecordError(f"{folder}: neither a plan nor a run in it, accepted: {accepted}")
    return [_standing(runs.get(key), config) for key, config in configs.items()]


def seconds_left(found: Sequence[Standing]) -> float | None:
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
