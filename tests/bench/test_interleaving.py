"""Turns, rounds and marks, on a clock that only moves when a call says so."""

from collections import Counter
from itertools import pairwise

import pytest
import torch

from dropact.bench.timing import (
    CudaClock,
    Effort,
    WallClock,
    calls_per_turn,
    clock_for,
    interleave,
    order,
    turn,
)

PARTS = {"forward": (0, 1), "backward": (1, 2), "both": (0, 2)}


class FakeClock:
    """Reads and moves one made-up time."""

    def __init__(self):
        self.time = 100.0
        self.marks = []

    def mark(self):
        self.marks.append(self.time)

    def read(self):
        marks, self.marks = self.marks, []
        return marks

    def now(self):
        return self.time


def worker(clock, name, forward, backward, log):
    """A call that takes `forward` and `backward` seconds, and 1000 more outside its marks."""

    def call(mark):
        log.append(name)
        clock.time += 500
        mark()
        clock.time += forward
        mark()
        clock.time += backward
        mark()
        clock.time += 500

    return call


def field(clock, log):
    return {name: worker(clock, name, *seconds, log) for name, seconds in SECONDS.items()}


SECONDS = {"a": (1.0, 2.0), "b": (3.0, 5.0), "c": (0.5, 0.25)}


def test_each_part_is_what_lies_between_its_marks():
    clock, log = FakeClock(), []
    samples = interleave(field(clock, log), clock, PARTS, Effort(rounds=4, warmup=2, seconds=1e9))
    for name, (forward, backward) in SECONDS.items():
        assert samples[name] == {
            "forward": [forward] * 4,
            "backward": [backward] * 4,
            "both": [forward + backward] * 4,
        }


@pytest.mark.parametrize(("calls", "lead_in"), [(1, False), (1, True), (3, True)])
def test_everyone_has_one_turn_per_round_after_the_warm_up(calls, lead_in):
    clock, log = FakeClock(), []
    effort = Effort(rounds=6, warmup=2, seconds=1e9)
    interleave(field(clock, log), clock, PARTS, effort, calls=calls, lead_in=lead_in)
    per_turn = calls + lead_in
    assert log[:6] == ["a", "b", "c"] * 2
    turns = log[6:]
    assert len(turns) == 6 * 3 * per_turn
    for number in range(6):
        of_round = turns[number * 3 * per_turn : (number + 1) * 3 * per_turn]
        assert of_round == [name for i in order(3, number) for name in ["abc"[i]] * per_turn]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_nobody_is_favoured_by_the_order(count):
    """Everyone in every place, and behind every other one, equally often."""
    rounds = [order(count, number) for number in range(2 * count)]
    assert all(sorted(places) == list(range(count)) for places in rounds)
    for place in range(count):
        assert set(Counter(places[place] for places in rounds).values()) == {2}
    if count > 1:
        behind = Counter(pair for places in rounds for pair in pairwise(places))
        assert len(behind) == count * (count - 1)
        assert set(behind.values()) == {2}


def test_a_budget_ends_the_rounds_but_not_before_the_least():
    clock, log = FakeClock(), []
    a_round = 3 * 2 * 1000 + 2 * (3 + 8 + 0.75)  # with the untimed calls
    counted = {}
    for seconds in (1e-3, 3.5 * a_round, 1e9):
        effort = Effort(rounds=7, warmup=1, least=2, seconds=seconds)
        counted[seconds] = len(interleave(field(clock, log), clock, PARTS, effort, now=clock.now)["a"]["both"])
    assert list(counted.values()) == [2, 4, 7]


def test_the_median_of_a_turn_is_that_of_its_calls_without_the_first():
    clock, lengths = FakeClock(), iter([99.0, 5.0, 1.0, 2.0])

    def call(mark):
        mark()
        clock.time += next(lengths)
        mark()

    assert turn(call, clock, {"all": (0, 1)}, calls=3, lead_in=True) == {"all": 2.0}


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, 1), (1e-3, 1), (3e-4, 3), (1e-6, 10), (0.0, 10)])
def test_short_calls_are_repeated_within_a_turn(seconds, calls):
    clock = FakeClock()
    clock.time = 0.0
    assert calls_per_turn(worker(clock, "a", seconds, 0.0, []), clock) == calls


def test_the_wall_clock_forgets_what_it_has_told():
    clock = WallClock()
    clock.mark()
    assert len(clock.read()) == 1
    assert clock.read() == []


def test_a_turn_that_the_clock_could_not_take_is_taken_again():
    """As on a GPU that was done before its host had asked for everything."""

    class Overtaken(FakeClock):
        refused = 2

        def read(self):
            marks = super().read()
            self.refused -= 1
            return [] if self.refused >= 0 else marks

    clock, log = Overtaken(), []
    taken = turn(worker(clock, "a", 1.0, 2.0, log), clock, PARTS, calls=2, lead_in=True)
    assert taken == {"forward": 1.0, "backward": 2.0, "both": 3.0}
    assert log == ["a"] * 9


class FakeGpu:
    """Does what it is asked for in order, each task at a time when the host has gone on by `lag`."""

    def __init__(self, lag):
        self.lag, self.slept, self.events = lag, [], []

    def event(self, enable_timing):
        assert enable_timing
        gpu = self

        class Event:
            def record(self):
                self.place = len(gpu.events)
                gpu.events.append(self)

            def query(self):  # whether the sleep before it is over when the host asks
                return gpu.slept[-1] < gpu.lag

            def synchronize(self):
                pass

            def elapsed_time(self, later):
                return float(later.place - self.place)

        return Event()


@pytest.mark.parametrize("lag", [0, 2**22, 2**40])
def test_a_gpu_waits_until_the_host_has_asked_for_everything(monkeypatch, lag):
    gpu = FakeGpu(lag)
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "_sleep", gpu.slept.append)
    clock = clock_for("cuda", ahead=True)
    taken = turn(lambda mark: [mark(), mark(), mark()], clock, PARTS, calls=3, lead_in=True)
    assert taken == pytest.approx({"forward": 1e-3, "backward": 1e-3, "both": 2e-3})
    # once a turn and twice as long each time, until it is enough or too much for anybody's patience
    most = min(lag, CudaClock._MOST_CYCLES)
    assert gpu.slept == [2**20 * 2**i for i in range(len(gpu.slept))]
    assert gpu.slept[-1] >= most > (gpu.slept[-2] if len(gpu.slept) > 1 else -1)


def test_a_step_is_timed_as_it_comes(monkeypatch):
    gpu = FakeGpu(2**40)
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "_sleep", gpu.slept.append)
    turn(lambda mark: [mark(), mark()], clock_for("cuda"), {"step": (0, 1)}, calls=2, lead_in=True)
    assert gpu.slept == []
