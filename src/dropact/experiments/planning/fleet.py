"""How long a grid takes on many devices, each with one run at a time, or several."""

import heapq
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Time until the last of these runs ends, each begun, in this order, as soon as a slot is free.

    >>> makespan([2.0, 2.0, 3.0], slots=2)
    5.0

    Raises:
        ValueError: no slot.
    """
    if slots < 1:
        raise ValueError(f"slots must be at least 1, got {slots!r}")
    free = [0.0] * min(slots, max(len(seconds), 1))
    for run in seconds:
        heapq.heapreplace(free, free[0] + run)
    return max(free)


def enough(seconds: Sequence[float]) -> int:
    """The fewest slots with which the whole takes no longer than its longest run: more do not help.

    >>> enough([4.0, 2.0, 2.0]), enough([1.0, 1.0, 1.0])
    (2, 3)
    """
    few, many = 1, max(len(seconds), 1)
    while few < many:  # with one slot more no run begins later, so that halving finds the first
        middle = (few + many) // 2
        if makespan(seconds, middle) <= max(seconds):
            many = middle
        else:
            few = middle + 1
    return few


@dataclass(frozen=True)
class Fleet:
    """A grid on so many devices.

    Attributes:
        devices: like the one that was measured.
        per_run: devices of each run; a quarter has four share one, and takes each to be as fast as alone.
        seconds: until the last run ends.
        busy: share of the devices' time that is spent on runs; the rest is waiting for the last ones.
        enough: devices beyond which more do not help.
        longest: seconds of the longest run, which no number of devices makes shorter.
    """

    devices: int
    per_run: float
    seconds: float
    busy: float
    enough: int
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float], devices: int, per_run: float = 1.0) -> "Fleet":
        """That of runs which take so long, in the order in which they are begun.

        Raises:
            ValueError: a run needs more devices than there are.
        """
        # A run that takes a part has it of one device, and one that takes several has them whole.
        share = int(1 / per_run + 1e-9) if per_run < 1 else 1 / ceil(per_run)
        slots = int(devices * share + 1e-9)
        whole = makespan(seconds, slots)
        needed = ceil(enough(seconds) / share - 1e-9)
        return cls(devices, per_run, whole, sum(seconds) / (slots * whole), needed, max(seconds))

    def to_values(self) -> dict[str, Any]:
        """Its JSON form."""
        return asdict(self)
