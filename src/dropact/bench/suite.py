"""What is to be measured, case by case, and the measuring of one case."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dropact.bench.calls import (
    OPERATION_PARTS,
    STEP_PARTS,
    converted_network,
    kept_for_backward,
    operation_call,
    peak_bytes,
    step_call,
)
from dropact.bench.candidates import BASELINE, CANDIDATES, chosen
from dropact.bench.machine import serving
from dropact.bench.race import Race, race
from dropact.bench.record import CandidateTimes, Case, Measurement
from dropact.bench.timing import Call, Effort, HostClock, calls_per_turn, clock_for, ignore

LARGE, SMALL = (128, 64, 32, 32), (128, 64, 8, 8)
MEBI_64, MEBI_16 = (2**26,), (2**24,)
OPERATION = "operation"
STEPS = {  # of a device: a network, how tables call it, and the side of its images
    "cpu": (("resnet-20", "ResNet-20", 32),),
    "cuda": (("resnet-18", "ResNet-18", 32), ("timm:vit_small_patch16_224", "ViT-small", 224)),
}
STEP_CALLS_AHEAD = 10  # a host that has steps to ask for runs ahead of its GPU, as in training


@dataclass(frozen=True)
class Suite:
    """A whole benchmark.

    >>> len(Suite().cases())
    18

    Args:
        accelerator: whether there is what a GPU's tables have besides: the copy, the host's time, a step's memory.
    """

    device: str = "cpu"
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    shapes: tuple[tuple[int, ...], ...] = (LARGE, SMALL)
    only: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("eager", "compiled")
    operations: bool = True
    step: bool = True
    batch: int = 128
    effort: Effort = field(default_factory=Effort)
    accelerator: bool = False

    @classmethod
    def usual(cls, device: str) -> "Suite":
        """What is measured on a device unless something else is asked for.

        >>> Suite.usual("cuda").dtypes
        ('float32', 'bfloat16')
        """
        if device == "cpu":
            return cls()
        return cls(device=device, shapes=(MEBI_64, MEBI_16), accelerator=True)

    def cases(self) -> list[Case]:
        """Every table, in the order they are shown. Only images (4 dimensions) have channels to put last."""
        operations = [
            Case(OPERATION, mode, dtype, shape, layout)
            for mode in self.modes
            for shape in self.shapes
            for dtype in self.dtypes
            for layout in (("contiguous", "channels_last") if len(shape) == 4 else ("contiguous",))
        ]
        steps = [
            Case(f"{label} training step", mode, "bfloat16", (self.batch, 3, side, side), "channels_last", network)
            for network, label, side in STEPS[self.device]
            for mode in self.modes
        ]
        return operations * self.operations + steps * self.step


def measure(case: Case, suite: Suite) -> Measurement:
    """Measures one case: checks who can run, warms up, takes turns.

    >>> suite = Suite(shapes=((2, 3),), only=("drop_activation",), effort=Effort(rounds=2))
    >>> measured = measure(suite.cases()[0], suite)
    >>> [row.name for row in measured.rows], measured.rounds
    (['relu', 'drop_activation'], 2)
    """
    torch.compiler.reset()  # each table compiles afresh, for its own shapes
    compiled = case.mode == "compiled"
    dtype = getattr(torch, case.dtype)
    x, other = _tensors(case, suite.device, dtype)
    calls_of: dict[str, Call] = {}
    memory: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for name in chosen(suite.only, step=case.network is not None, copy=suite.accelerator):
        before = torch.cuda.memory_allocated() if suite.accelerator else 0
        operation, convert = CANDIDATES[name].operation, CANDIDATES[name].convert
        if case.network is not None and convert is not None:
            network = converted_network(case.network, convert, suite.device, case.shape[-1])
            call = step_call(network, x, other, compiled)
        else:
            operation = torch.compile(operation, fullgraph=True, dynamic=False) if compiled else operation
            call = operation_call(operation, x, other)
        try:  # without a compiler, or a kernel for the dtype, it cannot
            call(ignore)
        except RuntimeError as error:
            left_out[name] = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
            continue
        calls_of[name] = call
        if case.network is None:
            memory[name] = {"kept": kept_for_backward(operation, x)}
        else:
            memory[name] = {"peak_bytes": peak_bytes(call, before) if suite.accelerator else None}
    backend = "inductor, from the torch definition" if compiled else serving(suite.device, dtype)
    if BASELINE not in calls_of:
        return Measurement(case, backend, rounds=0, calls=0, rows=(), noise=(), left_out=left_out)
    run, calls = _race(calls_of, case, suite)
    rows = [CandidateTimes(name, CANDIDATES[name].label, found, **memory[name]) for name, found in run.figures.items()]
    return Measurement(case, backend, run.rounds, calls, rows, run.noise, left_out)


def _race(calls_of: dict[str, Call], case: Case, suite: Suite) -> tuple[Race, int]:
    """The race, and how many calls a turn had."""
    if case.network is not None:  # as it comes: a host that is too slow makes training slow
        calls = STEP_CALLS_AHEAD if suite.accelerator else 1
        clock = clock_for(suite.device)
        return race(calls_of, clock, STEP_PARTS, suite.effort, calls=calls, lead_in=suite.accelerator), calls
    clock = clock_for(suite.device, ahead=True)  # an operation's own time on the device
    calls = calls_per_turn(calls_of[BASELINE], clock)
    run = race(calls_of, clock, OPERATION_PARTS, suite.effort, calls=calls)
    if suite.accelerator:
        host = race(calls_of, HostClock(suite.device), {"host": (0, 2)}, suite.effort, calls=calls)
        run = Race({name: host.samples[name] | taken for name, taken in run.samples.items()}, run.noise)
    return run, calls


def _tensors(case: Case, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """An operation's input and a gradient of its output, or a network's images and their labels."""
    generator = torch.Generator(device).manual_seed(0)
    last = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format

    def drawn(dtype: torch.dtype) -> Tensor:
        x = torch.randn(case.shape, generator=generator, device=device)
        return x.to(dtype).contiguous(memory_format=last)

    if case.network is not None:
        return drawn(torch.float32), torch.randint(10, case.shape[:1], generator=generator, device=device)
    return drawn(dtype).requires_grad_(), drawn(dtype)
