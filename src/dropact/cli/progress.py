"""Progress of a grid on the terminal: two bars, or one line per run where there is no terminal."""

import time
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dropact.experiments.checkpoint import CheckpointWarning
from dropact.experiments.config import RunConfig, schedule_mark
from dropact.experiments.errors import UserError
from dropact.experiments.launchers.ray import ClusterWarning
from dropact.experiments.records import Epoch, Result
from dropact.experiments.watch import Watcher

REFRESH = 0.1  # seconds; a step on small images takes two thousandths


class Bars(Watcher):
    """Watches the runs of a grid, and names each by what tells it from the others."""

    def __init__(self, configs: Sequence[RunConfig]) -> None:
        self._console = Console(stderr=True)
        self._total = len(configs)
        self._networks = len({config.network for config in configs}) > 1
        kinds = {(config.method, tuple(config.options.items())) for config in configs}
        self._options = len(kinds) > len({config.method for config in configs})
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
        self._all = self._progress.add_task("all runs", total=self._total, unit="runs")
        self._run = self._progress.add_task("", total=1, unit="", visible=False)
        self._shown = 0.0
        self._seen = 0  # images of the run at hand, and when it was at how many: the rate is that of this process
        self._start = (0.0, 0)

    def __enter__(self) -> "Bars":
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        for kind in (CheckpointWarning, ClusterWarning):
            warnings.simplefilter("always", kind)
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, CheckpointWarning | ClusterWarning):  # about what is the user's, no line of ours
                self._say(f"dropact: {message}")
            else:
                plain(message, category, *where, **more)

        warnings.showwarning = show
        self._progress.start()
        return self

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.update(self._run, visible=False)
        self._progress.stop()
        self._warnings.__exit__(kind, error, trace)

    def _advance(self) -> None:
        self._done += 1
        self._progress.advance(self._all)

    @property
    def _rate(self) -> str:
        seconds, images = time.monotonic() - self._start[0], self._seen - self._start[1]
        return f"{images / seconds:,.0f} images/s" if seconds > 0 and images else ""

    def _name(self, config: RunConfig) -> str:
        network = f"{config.network}, " if self._networks else ""
        numbers = "".join(f" {name} {value:.3g}" for name, value in config.options.items()) if self._options else ""
        return f"{network}{config.method}{numbers}, seed {config.seed}"

    def skipped(self, config: RunConfig) -> None:
        self._advance()

    def started(self, config: RunConfig, images: int) -> None:
        self._start, self._seen = (time.monotonic(), 0), 0
        self._progress.reset(
            self._run, total=config.epochs * images, description=self._name(config), unit="images", visible=True
        )

    def resumed(self, config: RunConfig, metrics: Sequence[Epoch], seen: int) -> None:
        self._start, self._seen = (time.monotonic(), seen), seen
        self._progress.update(self._run, completed=seen)
        self._say(f"{self._name(config)}: goes on from a checkpoint in epoch {len(metrics) + 1}")

    def stepped(self, config: RunConfig, seen: int) -> None:
        self._seen = seen
        now = time.monotonic()
        if now - self._shown >= REFRESH:
            self._shown = now
            self._progress.update(self._run, completed=seen, unit=self._rate)

    def finished(self, config: RunConfig, result: Result) -> None:
        self._advance()
        if not self._console.is_terminal:
            beside = ", ".join(filter(None, (schedule_mark(config.setting), self._rate)))
            self._say(
                f"[{self._done}/{self._total}] {self._name(config)}: test error {result['test_error']:.2f} %"
                + (f" ({beside})" if beside else "")
            )

    def failed(self, config: RunConfig, error: UserError) -> None:
        self._advance()
        if self._total > 1:  # of one alone the command's own error says it
            self._say(f"[{self._done}/{self._total}] {self._name(config)}: given up, {str(error).partition(';')[0]}")
