"""Committed runs trained once more: whether the same config, data and code still give the same bits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dropact.experiments.data import Dataset
from dropact.experiments.environment import describe
from dropact.experiments.errors import ConfigError, DivergedError, RecordError
from dropact.experiments.files import check_is_folder
from dropact.experiments.grid import finished_runs, run_grid
from dropact.experiments.records import RUNS, Run, read_run
from dropact.experiments.statistics import summarise
from dropact.experiments.validation import check_data
from dropact.experiments.watch import Watcher

FALSE_ALARM = 0.001
# What may differ without the bits being others: who asked, and when.
_IRRELEVANT = ("command", "git_revision", "before")


@dataclass(frozen=True)
class Verdict:
    """What became of one run.

    Attributes:
        same: whether every metric of every epoch is the same, to the last bit.
        errors: the test error of the last epoch as recorded and as found now, in percent.
        allowed: how far apart these may be where the environment is another one; None where the seeds do not tell.
        differing: what of the environment is another, with both values; that of an earlier part of the run counts too.
        diverged: how it ended now, if it did: then there is no error, and it does not hold.
    """

    key: str
    same: bool
    errors: tuple[float, float]
    allowed: float | None
    differing: dict[str, tuple[Any, Any]]
    diverged: str = ""

    @property
    def holds(self) -> bool:
        """The same bits; or, in another environment, an error within the tolerance."""
        if self.same or not self.differing:
            return self.same
        return self.allowed is not None and abs(self.errors[1] - self.errors[0]) <= self.allowed

    @property
    def _where(self) -> str:
        return ", ".join(f"{name} {before} → {now}" for name, (before, now) in self.differing.items())

    def sentence(self) -> str:
        """What a reader must know, in one line."""
        if self.same:
            return f"{self.key}: the same bits in all metrics (test error {self.errors[0]:.2f} %)"
        if self.diverged:
            where = f" ({self._where})" if self.differing else " in the same environment"
            return f"{self.key}: DIVERGED{where}, test error {self.errors[0]:.2f} % recorded, now {self.diverged}"
        moved = f"test error {self.errors[0]:.2f} % recorded, {self.errors[1]:.2f} % now"
        if not self.differing:
            return f"{self.key}: OTHER BITS in the same environment, {moved}"
        if self.allowed is None:
            why = "too few seeds, or all alike: no telling how far is too far"
            return f"{self.key}: other bits ({self._where}), {moved}; {why}"
        verdict = "within" if self.holds else "OUTSIDE"
        return f"{self.key}: other bits ({self._where}), {moved}: {verdict} ± {self.allowed:.2f} points"


def chosen(folder: Path, count: int) -> list[Run]:
    """`count` of the finished runs of `folder`, evenly from the first to the last by name.

    Raises:
        RecordError: there are fewer, or one is damaged.
        ConfigError: a count below 1.
    """
    if count < 1:
        raise ConfigError(f"runs: got {count}, accepted: at least 1")
    check_is_folder(folder)
    runs = finished_runs(folder)
    if len(runs) < count:
        raise RecordError(f"{folder}: {len(runs)} finished runs in it, accepted: at least {count}")
    last = max(count - 1, 1)
    return [runs[round(place * (len(runs) - 1) / last)] for place in range(count)]


def tolerance(run: Run, runs: Sequence[Run]) -> float | None:
    """How far two runs of one config may lie apart in test error, in points, in 999 of 1,000 cases.

    Two independent results of normal spread σ differ by √2 σ; σ is estimated from the seeds of the same method and
    setting, n of them, hence t of n − 1 degrees of freedom. None where there is one, or all came out alike.
    """
    from scipy import stats

    alike = [
        other.result["test_error"]
        for other in runs
        if (other.config.method, other.config.options, other.config.setting)
        == (run.config.method, run.config.options, run.config.setting)
    ]
    sd = summarise(alike).sd
    if not sd:
        return None
    return float(stats.t.isf(FALSE_ALARM / 2, len(alike) - 1)) * math.sqrt(2) * sd


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What may give other bits, with both values."""
    found = {
        name: (before.get(name), now.get(name))
        for name in dict.fromkeys([*before, *now])
        if name not in (*_IRRELEVANT, "packages") and before.get(name) != now.get(name)
    }
    versions, others = before["packages"], now["packages"]
    for package in dict.fromkeys([*versions, *others]):
        # Data and training go through these alone.
        if package in ("dropact", "torch", "numpy", "torchvision") and versions.get(package) != others.get(package):
            found[package] = (versions.get(package), others.get(package))
    return found


def verify(run: Run, folder: Path, data: Dataset, out: Path, watcher: Watcher, command: str) -> Verdict:
    """Trains `run`, one of `folder`'s, once more into `out`, with as many threads and on such a device as then.

    Raises:
        RecordError: the data are not those of the record; `out` is damaged, or holds the run as other code or another
            environment has trained it.
        ConfigError: there is no such device here.
    """
    before = run.environment
    check_data([run], [data])
    torch.set_num_threads(before["threads"])
    now = describe(data, command, before["device"])
    differing = _differing(before, now)
    for earlier in before.get("before", ()):  # that of a run which was stopped and went on elsewhere
        of_part = {
            f"{name} of a part": values for name, values in _differing(earlier, now).items() if name not in differing
        }
        differing |= of_part
    try:
        run_grid([run.config], out, data, watcher, command, device=before["device"])
    except DivergedError as error:
        return Verdict(run.config.key, False, (run.result["test_error"], math.nan), None, differing, str(error))
    found = read_run(out / RUNS / run.config.key)
    others = {name: then for name, (then, _) in _differing(found.environment, now).items()}
    if found.environment["git_revision"] != now["git_revision"]:
        others["git_revision"] = found.environment["git_revision"]
    if others:
        made = ", ".join(f"{name} {value}" for name, value in others.items())
        raise RecordError(
            f"{out / RUNS / run.config.key}: trained earlier, with {made}, which is not what is here now; choose "
            "another --out"
        )
    errors = run.result["test_error"], found.result["test_error"]
    allowed = tolerance(run, finished_runs(folder))
    # With a result stands the checksum of all metrics of all epochs.
    return Verdict(run.config.key, run.result == found.result, errors, allowed, differing)
