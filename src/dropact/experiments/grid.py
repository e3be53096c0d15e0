"""A list of configs, run one after the other in this process; finished ones are skipped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from dropact.experiments.comparison import RUNS
from dropact.experiments.config import RunConfig
from dropact.experiments.data import Dataset
from dropact.experiments.engine import Metrics, train
from dropact.experiments.environment import describe
from dropact.experiments.errors import ConfigError
from dropact.experiments.records import Run, RunWriter, is_finished, read_run


class Watcher(Protocol):
    """Who wants to know how far a grid has come."""

    def skipped(self, config: RunConfig) -> None: ...

    def started(self, config: RunConfig) -> None: ...

    def epoch(self, config: RunConfig, metrics: Metrics) -> None: ...

    def finished(self, config: RunConfig, result: dict[str, Any]) -> None: ...


def finished_runs(folder: Path) -> list[Run]:
    """Every finished run below `folder`, by name.

    Raises:
        RecordError: one of them is damaged.
    """
    runs = folder / RUNS
    directories = sorted(runs.iterdir()) if runs.is_dir() else []
    return [read_run(directory) for directory in directories if is_finished(directory)]


def run_grid(configs: Sequence[RunConfig], folder: Path, data: Dataset, watcher: Watcher, command: str = "") -> None:
    """Trains what is not yet finished, each run in `folder`/runs/KEY.

    An interruption (KeyboardInterrupt, or a kill) leaves the run at hand unfinished; the same call goes on from there.

    Raises:
        RecordError: a run that is already there is damaged; found before anything is trained.
        ConfigError: a config names another data set than `data`.
        TrainingError: a loss is no longer finite.
    """
    for config in configs:
        if config.dataset != data.name:
            raise ConfigError(f"dataset: got {config.dataset!r} in a grid on {data.name!r}, accepted: the same")
    done = {config.key for config in configs if is_finished(folder / RUNS / config.key)}
    for key in sorted(done):
        read_run(folder / RUNS / key)
    environment = describe(data, command)
    for config in configs:
        if config.key in done:
            watcher.skipped(config)
            continue
        watcher.started(config)
        with RunWriter(folder / RUNS / config.key, config, environment) as writer:

            def on_epoch(metrics: Metrics, config: RunConfig = config, writer: RunWriter = writer) -> None:
                writer.epoch(metrics)
                watcher.epoch(config, metrics)

            outcome = train(config, data, on_epoch)
            writer.finish(outcome.result, outcome.state, outcome.seconds)
        watcher.finished(config, outcome.result)
