"""Progress of a grid on the terminal: two bars, or one line per run where there is no terminal."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dropact.experiments.config import RunConfig


class Bars:
    """Watches a grid of `total` runs."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True)
        self._total = total
        self._done = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._all = self._progress.add_task("all runs", total=total, unit="runs")
        self._run = self._progress.add_task("", total=1, unit="epochs", visible=False)

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.update(self._run, visible=False)
        self._progress.stop()

    def _advance(self) -> None:
        self._done += 1
        self._progress.advance(self._all)

    def skipped(self, config: RunConfig) -> None:
        self._advance()

    def started(self, config: RunConfig) -> None:
        name = f"{config.method}, seed {config.seed}"
        self._progress.reset(self._run, total=config.epochs, description=name, visible=True)

    def epoch(self, config: RunConfig, metrics: dict[str, Any]) -> None:
        self._progress.advance(self._run)

    def finished(self, config: RunConfig, result: dict[str, Any]) -> None:
        self._advance()
        if not self._console.is_terminal:
            self._console.print(
                f"[{self._done}/{self._total}] {config.method}, seed {config.seed}: "
                f"test error {result['test_error']:.2f} %",
                markup=False,
                highlight=False,
            )
