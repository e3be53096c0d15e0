"""Contestants timed in turns, as ratios to the first of them, and why the figures deserve doubt."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropact.bench.machine import Watch, noise
from dropact.bench.timing import Call, Clock, Effort, Parts, Samples, interleave


@dataclass(frozen=True)
class Figure:
    """Median time of a call, and its ratio to the baseline's with a 95 % interval."""

    microseconds: float
    ratio: float
    low: float
    high: float

    @property
    def shown(self) -> str:
        """The ratio and its interval, as people read them."""
        return f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}]"


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the median, from the order of the values alone; all of them if fewer than 6.

    >>> interval_of_median(range(10))
    (1, 8)

    The k-th smallest and k-th largest, for the largest k with 2 P(Binomial(n, 1/2) < k) <= 0.05: no assumption on how
    timings are distributed, and no random draws.
    """
    ranked = sorted(values)
    n = len(ranked)
    k, outside = 0, 2 / 2**n  # outside: 2 P(Binomial(n, 1/2) < k + 1)
    while outside <= 0.05:
        k += 1
        outside += 2 * math.comb(n, k) / 2**n
    cut = max(k - 1, 0)
    return ranked[cut], ranked[n - 1 - cut]


def compare(seconds: Sequence[float], baseline: Sequence[float]) -> Figure:
    """Median time, and the median of the ratios to the baseline's time in the same round.

    >>> compare([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    Figure(microseconds=4000000.0, ratio=2.0, low=2.0, high=3.0)

    Round by round, because a machine that slows down then slows both.
    """
    ratios = [own / other for own, other in zip(seconds, baseline, strict=True)]
    low, high = interval_of_median(ratios)
    return Figure(statistics.median(seconds) * 1e6, statistics.median(ratios), low, high)


def spread(seconds: Sequence[float]) -> float:
    """Distance of the quartiles over the median: how far one's own rounds lie apart.

    >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
    0.6666666666666666
    """
    if len(seconds) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / middle


@dataclass(frozen=True)
class Race:
    """Seconds per contestant, part and round; the last part has the others in it. `noise` says why to doubt them."""

    samples: Samples
    noise: Sequence[str]

    @property
    def rounds(self) -> int:
        return len(self.whole(next(iter(self.samples))))

    def whole(self, name: str) -> list[float]:
        """The last part of each round."""
        return list(self.samples[name].values())[-1]

    @property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """By contestant and part, as ratios to the first contestant's."""
        first = next(iter(self.samples.values()))
        return {
            name: {part: compare(seconds, first[part]) for part, seconds in taken.items()}
            for name, taken in self.samples.items()
        }


def race(calls_by_name: Mapping[str, Call], clock: Clock, parts: Parts, effort: Effort, **turns: Any) -> Race:
    """`interleave` while the machine is watched; the first contestant is the baseline.

    >>> from dropact.bench.timing import WallClock
    >>> def work(mark):
    ...     mark(); sum(range(100)); mark()
    >>> run = race({"a": work, "b": work}, WallClock(), {"all": (0, 1)}, Effort(rounds=3))
    >>> run.rounds, run.figures["a"]["all"].ratio
    (3, 1.0)
    """
    with Watch() as watch:
        samples = interleave(calls_by_name, clock, parts, effort, **turns)
    run = Race(samples, [])
    return Race(samples, noise(watch.others, spread(run.whole(next(iter(samples))))))
