"""A list of configs, run one after the other; finished ones are skipped, unfinished ones go on."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from dropact.experiments.checkpoint import Checkpoints, CheckpointWarning, checkpoints_in, clear_checkpoints
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.engine import train
from dropact.experiments.environment import Environment, describe
from dropact.experiments.errors import ConfigError, DivergedError, TrainingError, UserError
from dropact.experiments.lock import HeldError, held
from dropact.experiments.packed import runs_in
from dropact.experiments.ranks import ALONE, Ranks
from dropact.experiments.records import (
    LOCK,
    RESULT,
    RUNS,
    Diverged,
    Epoch,
    Run,
    RunFiles,
    RunWriter,
    has_diverged,
    is_finished,
    read_diverged,
    read_run,
)
from dropact.experiments.watch import Watcher, Watchers


def finished_runs(
    folder: Path | Sequence[RunFiles], known: Sequence[Run] = (), of: Sequence[RunConfig] | None = None
) -> list[Run]:
    """Every finished run below `folder`, by name, or of those that `runs_in` has found there.

    Args:
        known: runs that have been read already, and are not read again.
        of: these alone.

    Raises:
        RecordError: one of them is damaged.
    """
    there = runs_in(folder) if isinstance(folder, Path) else folder
    keys = None if of is None else {config.key for config in of}
    read = {run.config.key: run for run in known}
    wanted = [run for run in there if run.has(RESULT) and (keys is None or run.key in keys)]
    return [read[run.key] if run.key in read else read_run(run) for run in wanted]


def finished_like(config: RunConfig, folder: Path) -> list[Run]:
    """Those that `config` will be compared or averaged with; what is the matter with others is not asked.

    Raises:
        RecordError: one of them is damaged.
    """
    beginning = f"{config.dataset}-{config.network}-"
    there = [run for run in runs_in(folder) if run.key.startswith(beginning) and run.has(RESULT)]
    return [run for run in map(read_run, there) if run.config.setting == config.setting]


def diverged_runs(folder: Path | Sequence[RunFiles]) -> list[Diverged]:
    """Every run below `folder` that has no result because it diverged, by name, or of those found there.

    Raises:
        RecordError: the record of one is damaged.
    """
    there = runs_in(folder) if isinstance(folder, Path) else folder
    return [read_diverged(run) for run in there if has_diverged(run)]


class _Recorder(Watcher):
    """Writes down what a run comes to."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer

    def resumed(self, config: RunConfig, metrics: Sequence[Epoch], seen: int) -> None:
        for record in metrics:
            self._writer.epoch(record)

    def epoch(self, config: RunConfig, metrics: Epoch) -> None:
        self._writer.epoch(metrics)


def _with_history(now: Environment, before: Environment | None) -> Environment:
    """`now`, and under "before" what the run was made with until here, where that was something else."""
    if before is None:
        return now
    earlier = before.get("before", [])
    last: Any = {name: value for name, value in before.items() if name != "before"}
    differing = sorted(name for name in {*now, *last} if name != "command" and now.get(name) != last.get(name))
    if differing:
        earlier = [*earlier, last]
        warnings.warn(
            f"the run goes on in another environment (it differs in {', '.join(differing)}): "
            "its bits need not be those of a run never stopped",
            CheckpointWarning,
            stacklevel=2,
        )
    return {**now, "before": earlier} if earlier else now


def run_grid(
    configs: Sequence[RunConfig],
    folder: Path,
    data: Dataset | Sequence[Dataset],
    watcher: Watcher,
    command: str = "",
    *,
    device: str = "cpu",
    checkpoint_seconds: float = 300.0,
    ranks: Ranks = ALONE,
    known: Sequence[Run] = (),
) -> None:
    """Trains what is not yet finished, each run in `folder`/runs/KEY.

    An interruption (KeyboardInterrupt, or a kill) leaves the run at hand unfinished; the same call goes on from its
    last checkpoint and ends with the same bits. A run that diverges, or for which a GPU has too little memory, does not
    keep the others from being trained.

    Args:
        data: that of the configs, or all of theirs where these name several.
        command: noted in the environment.
        checkpoint_seconds: at most so long after the last a checkpoint is written within an epoch, after the next step.
        ranks: the processes that train each run together. All call this alike; rank 0 alone looks at the folder and
            writes to it.
        known: finished runs of the folder that have been read already.

    Raises:
        RecordError: a run that is already there is damaged, found before anything is trained; a checkpoint belongs to
            something else; or another process is training the run.
        ConfigError: a config names another data set than those of `data`.
        TrainingError: some runs could not be trained, when all others are.
    """
    sets = {each.name: each for each in ([data] if isinstance(data, Dataset) else data)}
    for config in configs:
        if config.dataset not in sets:
            raise ConfigError(f"dataset: got {config.dataset!r} in a grid on {', '.join(sets)}, accepted: one of these")
    if ranks.rank:
        for config in configs:
            if ranks.broadcast(None):
                train(config, sets[config.dataset], device=device, ranks=ranks)
        return
    done = {run.config.key for run in finished_runs(folder, known, configs)}
    left = len(configs) - len(done)
    environments = {name: describe(each, command, device, ranks) for name, each in sets.items()}
    failed: list[UserError] = []
    for config in configs:
        if config.key in done and not is_finished(folder / RUNS / config.key):  # packed
            ranks.broadcast(False)
            watcher.skipped(config)
            continue
        data, environment = sets[config.dataset], environments[config.dataset]
        try:
            train_run(config, folder, data, watcher, environment, device, checkpoint_seconds, ranks)
        except TrainingError as error:
            if ranks.count > 1:  # the others may be in the midst of a step
                raise
            failed.append(error)
            watcher.failed(config, error)
    raise_failed(failed, left)


def raise_failed(failed: Sequence[UserError], tried: int) -> None:
    """Says at the end of a grid which of its runs there will be no result of, if there are any.

    Raises:
        TrainingError: there are; of a single run its own error.
    """
    if failed and tried == 1:
        raise failed[0]
    if failed:
        raise TrainingError(f"{len(failed)} of {tried} runs could not be trained; the first: {failed[0]}")


def train_run(
    config: RunConfig,
    folder: Path,
    data: Dataset,
    watcher: Watcher,
    environment: Environment,
    device: str,
    checkpoint_seconds: float,
    ranks: Ranks = ALONE,
    patience: float = 0.0,
) -> None:
    """Trains one run of a grid in `folder`/runs/KEY, if it is not finished.

    Args:
        environment: what `describe` says.
        patience: seconds to wait for another process that trains it.

    Raises:
        RecordError: as `run_grid` does; or a checkpoint cannot be written.
        DivergedError: the loss or the weights are no longer finite, which is noted in the directory.
        TrainingError: a CUDA device has too little memory.
    """
    directory = folder / RUNS / config.key
    if is_finished(directory):
        _tidy(directory)
        ranks.broadcast(False)
        watcher.skipped(config)
        return
    directory.mkdir(parents=True, exist_ok=True)
    with held(directory / LOCK, f"the run {config.key}", patience):
        if is_finished(directory):  # by another process, since we looked
            ranks.broadcast(False)
            watcher.skipped(config)
            return
        ranks.broadcast(True)
        try:
            _train(config, directory, data, watcher, environment, device, checkpoint_seconds, ranks)
            return
        except torch.OutOfMemoryError as error:
            what = str(error).partition(". ")[0]
    # Raised out here, an error does not hold on to the network; nor does the device, for those who share it.
    torch.cuda.empty_cache()
    raise TrainingError(f"{config.key}: {what}; the same command goes on from its last checkpoint when there is more")


def _tidy(directory: Path) -> None:
    """Removes what a kill between the result and the end left of a finished run."""
    if checkpoints_in(directory) or (directory / LOCK).exists():
        with suppress(HeldError), held(directory / LOCK, "a finished run"):
            clear_checkpoints(directory)


def _train(
    config: RunConfig,
    directory: Path,
    data: Dataset,
    watcher: Watcher,
    environment: Environment,
    device: str,
    checkpoint_seconds: float,
    ranks: Ranks,
) -> None:
    checkpoints = Checkpoints(directory, config.key, data.sha256, checkpoint_seconds)
    found = checkpoints.found
    checkpoints.environment = _with_history(environment, found.header.get("environment") if found else None)
    with RunWriter(directory, config, checkpoints.environment) as writer:
        everyone = Watchers(_Recorder(writer), watcher)
        try:
            outcome = train(config, data, everyone, device=device, checkpoints=checkpoints, ranks=ranks)
        except DivergedError as error:
            writer.diverged(error)
            raise
        writer.finish(outcome.result, outcome.state, outcome.seconds, outcome.readings, outcome.end_seconds)
    clear_checkpoints(directory)
    watcher.finished(config, outcome.result)
