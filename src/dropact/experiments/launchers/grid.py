"""A grid whose runs are trained by other processes, here or on a cluster.

The grid's state is the directories of its runs: whoever trains one takes its lock, and a process that dies leaves a
checkpoint from which the next goes on. A launcher (`local`, `ray_cluster`) has nothing of its own to save: after the
death of all the same command goes on.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from dropact.experiments.checkpoint import CheckpointWarning
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset, load_dataset
from dropact.experiments.environment import Environment, describe
from dropact.experiments.errors import RecordError, TrainingError, UserError
from dropact.experiments.grid import finished_runs, raise_failed, train_run
from dropact.experiments.lock import held
from dropact.experiments.records import RUNS, Result, Run, read_run
from dropact.experiments.tensorboard import TensorBoard
from dropact.experiments.watch import Watcher, Watchers

DRIVER = ".driver"  # names the process that spreads the grid, while it does
ATTEMPTS = 10  # of a run whose processes die: each goes on from the last checkpoint, so that most come further
PATIENCE = 60.0  # seconds that a run waits for its last process to be gone, as when a node was cut off

T = TypeVar("T")
# Applies a function to configs in other processes, at most `ATTEMPTS` times to each, and yields what comes of each as
# it comes, or the error that there is nothing.
Launcher = Callable[[Callable[[RunConfig], T], Sequence[RunConfig]], Iterator[tuple[RunConfig, T | UserError]]]


class LostError(TrainingError):
    """The processes that should have trained a run died, again and again."""

    def __init__(self, config: RunConfig, how: str) -> None:
        super().__init__(f"{config.key}: {ATTEMPTS} processes died over it, the last {how}")


@dataclass(frozen=True)
class Done:
    """What came of a run: its result and what was warned of on the way."""

    result: Result
    warned: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """Trains runs of one grid wherever it is sent; called with a config.

    Args:
        folder: of the grid, absolute; every process sees it under this name.
        root: of the data sets, as for `load_dataset`.
        command, device, checkpoint_seconds: as for `run_grid`.
        threads: of torch.
        tensorboard: whether its files are written too.
    """

    folder: Path
    root: Path | None
    command: str
    device: str
    checkpoint_seconds: float
    threads: int
    tensorboard: bool = False

    def __call__(self, config: RunConfig) -> Done | UserError:
        """The run, trained unless it is finished; an error that the user can put right is handed back."""
        torch.set_num_threads(self.threads)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CheckpointWarning)
            try:
                result = self._train(config)
            except UserError as error:
                return error
            except OSError as error:  # a full disk, for instance
                return RecordError(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return Done(result, [str(each.message) for each in caught])

    def _train(self, config: RunConfig) -> Result:
        data, environment = _known(config.dataset, self.root, self.command, self.device)
        watcher = Watchers(TensorBoard(self.folder)) if self.tensorboard else Watcher()
        settings = (self.device, self.checkpoint_seconds)
        try:
            train_run(config, self.folder, data, watcher, environment, *settings, patience=PATIENCE)
        except UserError as error:
            watcher.failed(config, error)
            raise
        return read_run(self.folder / RUNS / config.key).result


@functools.cache
def _known(dataset: str, root: Path | None, command: str, device: str) -> tuple[Dataset, Environment]:
    """What is the same for all runs that this process trains."""
    data = load_dataset(dataset, root)
    return data, describe(data, command, device)


def launch_grid(
    configs: Sequence[RunConfig],
    folder: Path,
    job: Callable[[RunConfig], Any],
    over: Launcher[Any],
    watcher: Watcher,
    known: Sequence[Run] = (),
) -> None:
    """Has `job` called with every config that is not finished; `known` are finished runs that have been read already.

    A run that cannot be trained does not keep the others from being trained.

    Raises:
        RecordError: a finished run is damaged, or another process spreads the grid already; it is named.
        TrainingError: some runs could not be trained, when all others are; of a single run its own error.
    """
    done = {run.config.key for run in finished_runs(folder, known, configs)}
    left = []
    for config in configs:
        if config.key in done:
            watcher.skipped(config)
        else:
            left.append(config)
    failed: list[UserError] = []
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / DRIVER, f"the grid in {folder}"):
        for config, outcome in over(job, left):
            if isinstance(outcome, UserError):
                failed.append(outcome)
                watcher.failed(config, outcome)
                continue
            for words in outcome.warned:
                warnings.warn(words, CheckpointWarning, stacklevel=2)
            watcher.finished(config, outcome.result)
    raise_failed(failed, len(left))
