"""What the rows of a table would cost on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dropact.experiments.config import RunConfig
from dropact.experiments.planning.cost import SECONDS, Cost, kind_of, measure


@dataclass(frozen=True)
class Line:
    """One method of one row of a plan: the cost of a step, and of all its runs."""

    row: str
    config: RunConfig
    runs: int
    cost: Cost

    @property
    def images_per_second(self) -> float:
        return self.config.batch_size / self.cost.step_seconds

    @property
    def run_seconds(self) -> float:
        return self.cost.run_seconds(self.config)

    @property
    def seconds(self) -> float:
        return self.runs * self.run_seconds

    def to_values(self) -> dict[str, Any]:
        """Its JSON form."""
        return {
            "row": self.row,
            "network": self.config.network,
            "dataset": self.config.dataset,
            "method": self.config.method,
            "precision": self.config.precision,
            "batch_size": self.config.batch_size,
            "measured_batch_size": self.cost.batch_size,
            "measured_steps": self.cost.steps,
            "step_seconds": self.cost.step_seconds,
            "images_per_second": self.images_per_second,
            "evaluated_images_per_second": 1 / self.cost.image_seconds,
            "peak_bytes": self.cost.peak_bytes,
            "epochs": self.config.epochs,
            "full_epochs": self.config.full_epochs,
            "runs": self.runs,
            "hours_per_run": self.run_seconds / 3600,
            "hours": self.seconds / 3600,
        }


def in_order(lines: Sequence[Line]) -> list[float]:
    """Seconds of every run, as a grid begins them: seeds outermost."""
    return [line.run_seconds for seed in range(max(line.runs for line in lines)) for line in lines if seed < line.runs]


def plan(
    rows: Sequence[tuple[str, Sequence[RunConfig]]],
    device: str = "cpu",
    seconds: float = SECONDS,
    announce: Callable[[int, int, RunConfig], None] = lambda done, of, config: None,
) -> list[Line]:
    """The cost of rows of runs, each kind of step measured once.

    Args:
        rows: a name and the row's runs.
        seconds: for the timing of each kind.
        announce: called before each measurement with how many are done, how many there are, and what comes.
    """
    kinds = list(dict.fromkeys(kind_of(config) for _, configs in rows for config in configs))
    costs: dict[str, Cost] = {}
    batches: dict[str, int] = {}  # one for all methods of a setting, that their times compare
    lines = []
    for name, configs in rows:
        by_method: dict[str, list[RunConfig]] = {}
        for config in configs:
            by_method.setdefault(config.method, []).append(config)
        for alike in by_method.values():
            key = kind_of(alike[0])
            if key not in costs:
                announce(len(costs), len(kinds), alike[0])
                setting = kind_of(replace(alike[0], method="baseline", options={}))
                costs[key] = measure(alike[0], device, seconds, batches.get(setting))
                batches[setting] = costs[key].batch_size
            lines.append(Line(name, alike[0], len(alike), costs[key]))
    return lines
