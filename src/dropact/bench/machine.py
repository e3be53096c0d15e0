"""What the benchmark ran on, which kernels served it, and who else was using the machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dropact import kernels
from dropact.experiments.environment import git_revision, machine
from dropact.kernels import cpu

PACKAGES = ("dropact", "torch", "triton")
MOST_LOAD = 0.5  # processes already running when we start
MOST_OTHERS = 0.1  # cores used by others while we measure
MOST_SPREAD = 0.2  # distance of the baseline's quartiles over its median


def serving(device: str, dtype: torch.dtype = torch.float32) -> str:
    """Which backend serves eager tensors, in words; it begins with "torch" where no kernel does.

    >>> serving("meta")
    'torch'
    """
    if device == "cpu" and cpu.extension is not None and not cpu.serves(dtype):
        return f"torch (this compiler's build has none for {dtype})"
    return kernels.backend(device)


def falls_back(backend: str) -> bool:
    """Whether that backend is the plain torch definition, several times slower than what is meant to be measured.

    >>> falls_back("torch (no compiler)"), falls_back("C, avx512, one thread")
    (True, False)
    """
    return backend.startswith("torch")


def load_at_start() -> list[str]:
    """Why the machine is not quiet before we begin; nothing where it is, or where the system cannot say."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return []
    return [f"load average {load:.2f} at the start"] if load > MOST_LOAD else []


def _busy_seconds() -> float | None:
    """Processor seconds that everyone together has used, and that other guests of the host have taken."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Cores used by other processes while it is entered; None where the system cannot say.

    >>> with Watch() as watch:
    ...     _ = sum(range(1000))
    >>> watch.others is None or watch.others >= 0
    True
    """

    others: float | None = None

    def __init__(
        self,
        busy: Callable[[], float | None] = _busy_seconds,
        own: Callable[[], float] = lambda: sum(os.times()[:4]),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._busy, self._own, self._now = busy, own, now

    def _others(self) -> float | None:
        busy = self._busy()
        return None if busy is None else busy - self._own()

    def __enter__(self) -> "Watch":
        self._before, self._start = self._others(), self._now()
        return self

    def __exit__(self, *error: object) -> None:
        after, seconds = self._others(), self._now() - self._start
        if after is not None and self._before is not None and seconds > 0:
            self.others = max(0.0, (after - self._before) / seconds)


def noise(others: float | None, spread_of_baseline: float) -> list[str]:
    """Why a table's figures deserve doubt; nothing on a quiet machine.

    >>> noise(0.01, 0.05)
    []
    >>> noise(1.0, 0.5)
    ['other processes used 1.00 cores', "the first one's own time varies by 50 %"]
    """
    found = []
    if others is not None and others > MOST_OTHERS:
        found.append(f"other processes used {others:.2f} cores")
    if spread_of_baseline > MOST_SPREAD:
        found.append(f"the first one's own time varies by {100 * spread_of_baseline:.0f} %")
    return found


def environment(device: str, command: str) -> dict[str, Any]:
    """Versions, hardware, git revision, backend, threads, the command, and the load at the start; no host name.

    >>> sorted(environment("cpu", "dropact bench"))[:4]
    ['accelerator', 'backend', 'command', 'cores']
    """
    return {
        "command": command,
        "git_revision": git_revision(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **machine(PACKAGES),
        "device": device,
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
        "backend": serving(device),
        "noise": load_at_start(),
    }
