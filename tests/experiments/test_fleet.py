"""How long independent runs take on many devices, against closed forms and a clock that ticks."""

import random
from math import ceil

import pytest

from dropact.experiments.planning.fleet import Fleet, enough, makespan


def ticking(seconds, slots):
    """Second by second: a free slot takes the next run."""
    waiting, left, clock = list(seconds), [0] * slots, 0
    while waiting or any(left):
        left = [waiting.pop(0) if not each and waiting else each for each in left]
        left = [max(each - 1, 0) for each in left]
        clock += 1
    return clock


@pytest.mark.parametrize("seed", range(20))
def test_a_clock_that_ticks_says_the_same(seed):
    random.seed(seed)
    seconds = [random.randint(1, 9) for _ in range(random.randint(1, 25))]
    spans = [makespan(seconds, slots) for slots in range(1, len(seconds) + 3)]
    assert spans == [ticking(seconds, slots) for slots in range(1, len(seconds) + 3)]
    assert enough(seconds) == 1 + spans.index(max(seconds))
    assert spans == sorted(spans, reverse=True)


@pytest.mark.parametrize(
    ("devices", "per_run", "at_once"), [(5, 0.4, 10), (2, 0.6, 2), (3, 1 / 3, 9), (5, 2.0, 2), (1, 0.1, 10)]
)
def test_no_run_is_split_over_parts_of_devices(devices, per_run, at_once):
    for runs in (at_once, at_once + 1):
        fleet = Fleet.of([3600.0] * runs, devices, per_run)
        assert fleet.seconds == 3600.0 * (1 + (runs > at_once))
    assert Fleet.of([3600.0] * at_once, devices, per_run).enough == (4 if devices == 5 and per_run == 2 else devices)


@pytest.mark.parametrize(("runs", "devices", "per_run"), [(30, 64, 1.0), (30, 8, 1.0), (30, 4, 0.25), (12, 8, 2.0)])
def test_equal_runs_go_by_in_rounds(runs, devices, per_run):
    fleet = Fleet.of([3600.0] * runs, devices, per_run)
    slots = int(devices / per_run)
    assert fleet.seconds == 3600.0 * ceil(runs / slots)
    assert fleet.busy == pytest.approx(runs / (slots * ceil(runs / slots)))
    assert fleet.enough == ceil(runs * per_run)  # about the number of runs x devices per run
    assert fleet.longest == 3600.0


def test_no_device_is_refused():
    with pytest.raises(ValueError, match="slots must be at least 1, got 0"):
        makespan([1.0], 0)
