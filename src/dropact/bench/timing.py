"""Calls timed in turns, in one process, so that whatever the machine does happens to all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Mark = Callable[[], None]
Call = Callable[[Mark], object]  # does its work, calling `mark` at the borders of its parts
Parts = Mapping[str, tuple[int, int]]  # each part from one mark to another
Samples = dict[str, dict[str, list[float]]]  # name -> part -> seconds, one per round


class Clock(Protocol):
    """Takes marks; `read` gives them in seconds since any fixed moment, and forgets them. None: to be taken again."""

    def mark(self) -> None: ...

    def read(self) -> list[float]: ...


class WallClock:
    """For work that is done when the call returns.

    >>> clock = WallClock()
    >>> clock.mark(); clock.mark()
    >>> first, second = clock.read()
    >>> first <= second
    True
    """

    def __init__(self) -> None:
        self._marks: list[float] = []

    def mark(self) -> None:
        self._marks.append(time.perf_counter())

    def read(self) -> list[float]:
        marks, self._marks = self._marks, []
        return marks


class HostClock(WallClock):
    """For how long the host is busy asking for work that a device does."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def read(self) -> list[float]:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return super().read()


class CudaClock:
    """Events in the current stream: what the device was busy with.

    Args:
        ahead: whether the device waits at the first mark until the host has asked for everything. Its own time is then
            measured alone; otherwise also its waits for the host.
    """

    _MOST_CYCLES = 2**28  # some 0.15 s: whoever takes longer waits for the device himself

    def __init__(self, ahead: bool = False) -> None:
        self._events: list[Any] = []
        self._ahead, self._cycles = ahead, 2**20

    def mark(self) -> None:
        if self._ahead and not self._events:
            torch.cuda._sleep(self._cycles)
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def read(self) -> list[float]:
        events, self._events = self._events, []
        if not events:
            return []
        overtaken = self._ahead and events[0].query()
        events[-1].synchronize()
        if overtaken and self._cycles < self._MOST_CYCLES:
            self._cycles *= 2
            return []
        return [events[0].elapsed_time(event) / 1e3 for event in events]


def clock_for(device: str, *, ahead: bool = False) -> Clock:
    return CudaClock(ahead) if device == "cuda" else WallClock()


@dataclass(frozen=True)
class Effort:
    """How much to measure: rounds, fewer where `seconds` are over after `least`; warm-up rounds count for nothing."""

    rounds: int = 50
    seconds: float = 40.0
    warmup: int = 3
    least: int = 5


def order(count: int, number: int) -> list[int]:
    """Who comes when in round `number`: rotated each round, and everyone behind everyone else equally often.

    >>> [order(4, number) for number in range(4)]
    [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]]

    A mere rotation would keep each call behind the same neighbour, whose caches and sleeping threads it inherits.
    """
    zigzag = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    turns = [(place + number) % count for place in zigzag]
    return turns[::-1] if count % 2 and number // count % 2 else turns


def ignore() -> None:
    """The mark of calls that nobody times."""


def turn(call: Call, clock: Clock, parts: Parts, calls: int, lead_in: bool) -> dict[str, float]:
    """Median seconds of each part over `calls` calls, behind a call that counts for nothing if `lead_in`."""
    marks: list[float] = []
    while not marks:
        if lead_in:
            call(ignore)
        for _ in range(calls):
            call(clock.mark)
        marks = clock.read()
    each = len(marks) // calls
    starts = range(0, len(marks), each)
    return {part: statistics.median(marks[s + to] - marks[s + of] for s in starts) for part, (of, to) in parts.items()}


def calls_per_turn(call: Call, clock: Clock, target: float = 1e-3, most: int = 10) -> int:
    """How many calls of the baseline fill `target` seconds: short ones are repeated to lift them above the noise."""
    whole = {"whole": (0, -1)}
    seconds = statistics.median(turn(call, clock, whole, 1, lead_in=True)["whole"] for _ in range(5))
    return max(1, min(most, round(target / seconds))) if seconds > 0 else most


def interleave(
    calls_by_name: Mapping[str, Call],
    clock: Clock,
    parts: Parts,
    effort: Effort,
    *,
    calls: int = 1,
    lead_in: bool = True,
    now: Callable[[], float] = time.monotonic,
) -> Samples:
    """Seconds of each call in each round; every one has one turn per round.

    >>> def work(mark):
    ...     mark(); sum(range(100)); mark()
    >>> samples = interleave({"a": work, "b": work}, WallClock(), {"all": (0, 1)}, Effort(rounds=3))
    >>> len(samples["a"]["all"]), len(samples["b"]["all"])
    (3, 3)

    Args:
        parts: which marks each part lies between.
        calls: timed calls per turn, of which the median is taken.
        lead_in: whether an untimed call precedes them, so that the caches and threads found are the call's own.
        now: the time that `effort.seconds` is counted in; that of warm-up does not count.
    """
    names = list(calls_by_name)
    for _ in range(effort.warmup):
        for name in names:
            calls_by_name[name](ignore)
    samples: Samples = {name: {part: [] for part in parts} for name in names}
    end = now() + effort.seconds
    for number in range(effort.rounds):
        if number >= effort.least and now() >= end:
            break
        for index in order(len(names), number):
            taken = turn(calls_by_name[names[index]], clock, parts, calls, lead_in)
            for part, seconds in taken.items():
                samples[names[index]][part].append(seconds)
    return samples
