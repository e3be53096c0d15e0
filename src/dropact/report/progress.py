"""The runs of a folder as a grid that grows: one line per setting and method."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dropact.experiments.progress import DIVERGED, FINISHED, RUNNING, STOPPED, RunProgress, seconds_left
from dropact.experiments.statistics import summarise
from dropact.report import terminal
from dropact.report.captions import differing, mean_and_interval, row_label, told_apart
from dropact.report.grids import Grid

if TYPE_CHECKING:
    from rich.table import Table


def _where(found: Sequence[RunProgress]) -> dict[str, str]:
    """By setting the network, and what tells it from other settings of that network."""
    networks: dict[str, dict[str, Mapping[str, Any]]] = {}
    for run in found:
        networks.setdefault(run.config.network, {})[run.setting] = run.config.setting
    names = {}
    for network, settings in networks.items():
        fields = differing(list(settings.values()))
        for key, setting in settings.items():
            names[key] = ", ".join(filter(None, (network, told_apart(setting, fields))))
    return names


def _at(run: RunProgress) -> str:
    epoch = f"epoch {run.last['epoch']} of {run.config.epochs}" if run.last else "begun"
    if run.last and run.last["test_error"] is not None:
        epoch += f", {run.last['test_error']:.2f} %"
    return f"seed {run.config.seed}: {epoch}" + ("" if run.state == RUNNING else f", {run.state}")


def grid(found: Sequence[RunProgress]) -> Grid:
    """What is finished, with its mean so far, and what is at hand."""
    where = _where(found)
    lines: dict[tuple[str, str], list[RunProgress]] = {}
    for run in found:
        lines.setdefault((run.setting, row_label(run.config)), []).append(run)
    rows = []
    for (setting, method), runs in lines.items():
        ended = [run.last["test_error"] for run in runs if run.state == FINISHED and run.last]
        errors = [error for error in ended if error is not None]
        at_hand = "; ".join(_at(run) for run in runs if run.state in (RUNNING, STOPPED, DIVERGED))
        mean = mean_and_interval(summarise(errors) if errors else None)
        rows.append((method, where[setting], f"{len(errors)} of {len(runs)}", mean, at_hand))
    return Grid(("Method", "Network", "Finished", "Test error so far (%)", "At hand"), rows)


def sentence(found: Sequence[RunProgress]) -> str:
    """All of it in one line, with the time that is left where it can be told."""
    done, running, diverged = (sum(run.state == state for run in found) for state in (FINISHED, RUNNING, DIVERGED))
    left = seconds_left(found)
    rest = "" if left is None else f", about {_duration(left)} left"
    lost = f", {diverged} diverged" if diverged else ""
    return f"{done} of {len(found)} runs finished, {running} running{lost}{rest}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def drawn(found: Sequence[RunProgress]) -> "Table":
    """The grid for a terminal."""
    return terminal.drawn(grid(found), caption=sentence(found))
