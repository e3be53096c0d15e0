"""Runs spread over processes of this machine."""

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch

from dropact.experiments.config import RunConfig
from dropact.experiments.errors import UserError
from dropact.experiments.launchers.grid import ATTEMPTS, Launcher, LostError
from dropact.experiments.processes import end_with_parent

T = TypeVar("T")


@dataclass
class _Failed:
    """An error that is ours, and no user's."""

    trace: str


@dataclass
class _Worker:
    process: BaseProcess
    config: RunConfig
    turn: int


def local(count: int, device: str = "cpu") -> Launcher[T]:
    """Trains runs on `count` processes, no more than there are runs, each with the next as soon as it is done with one.

    A process that dies costs what its run did since the last checkpoint; another takes its place and its GPU, which are
    dealt out in turn. `concurrent.futures` would end all processes when one dies.
    """

    def over(task: Callable[[RunConfig], T], configs: Sequence[RunConfig]) -> Iterator[tuple[RunConfig, T | UserError]]:
        most = min(count, len(configs))  # more would have nothing to do
        waiting, deaths = deque(configs), dict.fromkeys((config.key for config in configs), 0)
        workers: dict[Connection, _Worker] = {}
        try:
            while waiting or workers:
                while waiting and len(workers) < most:
                    turn = min({*range(most)} - {worker.turn for worker in workers.values()})
                    pipe, process = _start(task, turn if device == "cuda" else None)
                    workers[pipe] = _Worker(process, waiting.popleft(), turn)
                    _send(pipe, workers[pipe].config)
                ready = set(wait(list(workers)))
                for pipe in [pipe for pipe in workers if pipe in ready]:
                    worker = workers[pipe]
                    try:
                        outcome = pipe.recv()
                    except (EOFError, OSError):
                        _end(pipe, workers.pop(pipe))
                        config = worker.config
                        deaths[config.key] += 1
                        if deaths[config.key] < ATTEMPTS:
                            waiting.appendleft(config)
                        else:
                            yield config, LostError(config, f"with exit status {worker.process.exitcode}")
                        continue
                    if isinstance(outcome, _Failed):
                        raise RuntimeError(f"{worker.config.key} failed in a process of its own:\n{outcome.trace}")
                    finished = worker.config
                    if waiting:
                        worker.config = waiting.popleft()
                        _send(pipe, worker.config)
                    else:
                        _end(pipe, workers.pop(pipe))
                    yield finished, outcome
        finally:
            for pipe, worker in workers.items():
                _end(pipe, worker)

    return over


def _start(task: Callable[[RunConfig], object], turn: int | None) -> tuple[Connection, BaseProcess]:
    # Not forked from this process: its threads, and an accelerator in use, do not survive that.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, task, turn))
    process.start()
    theirs.close()  # so that ours ends when the process does
    return ours, process


def _send(pipe: Connection, config: RunConfig) -> None:
    with suppress(OSError):  # it is dead, as the next look at the pipe says
        pipe.send(config)


def _end(pipe: Connection, worker: _Worker) -> None:
    worker.process.kill()  # it has nothing that must be saved
    worker.process.join()
    pipe.close()


def _work(pipe: Connection, task: Callable[[RunConfig], object], turn: int | None) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first sees to it
    if turn is not None:
        torch.cuda.set_device(turn % torch.cuda.device_count())
    while True:
        try:
            config = pipe.recv()
        except EOFError:
            return
        try:
            outcome = task(config)
        except Exception:
            outcome = _Failed(traceback.format_exc())
        pipe.send(outcome)
        del outcome  # an error may hold a network that the next has no room beside
