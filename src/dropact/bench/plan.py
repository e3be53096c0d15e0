"""What is to be measured, case by case, and the measuring of one case."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dropact.bench.contestants import BASELINE, CANDIDATES, chosen
from dropact.bench.machine import Watch, noise, serving
from dropact.bench.operations import OPERATION_PARTS, Operation, operation_contestants, prepare
from dropact.bench.ratios import compare, spread
from dropact.bench.record import Row, Table
from dropact.bench.saved import kept_for_backward
from dropact.bench.step import STEP_PARTS, step_contestants
from dropact.bench.targets import LARGE, SMALL, kept_verdicts, verdicts
from dropact.bench.timing import Contestant, Effort, calls_per_turn, clock_for, ignore, interleave

OPERATION, STEP = "operation", "ResNet-20 training step"


@dataclass(frozen=True)
class Case:
    """One table to be."""

    what: str
    mode: str  # eager | compiled
    dtype: str
    shape: tuple[int, ...]
    layout: str  # contiguous | channels_last


@dataclass(frozen=True)
class Plan:
    """A whole benchmark.

    >>> len(Plan().cases())
    18
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

    def cases(self) -> list[Case]:
        """Every table, in the order they are shown. Only images (4 dimensions) have channels to put last."""
        found = [
            Case(OPERATION, mode, dtype, shape, layout)
            for mode in self.modes
            for shape in self.shapes
            for dtype in self.dtypes
            for layout in (("contiguous", "channels_last") if len(shape) == 4 else ("contiguous",))
            if self.operations
        ]
        steps = [Case(STEP, mode, "bfloat16", (self.batch, 3, 32, 32), "channels_last") for mode in self.modes]
        return found + steps * self.step


def measure(case: Case, plan: Plan) -> Table:
    """Measures one case: checks who can run, warms up, takes turns.

    >>> plan = Plan(shapes=((2, 3),), only=("drop_activation",), effort=Effort(rounds=2))
    >>> table = measure(plan.cases()[0], plan)
    >>> [row.name for row in table.rows], table.rounds
    (['relu', 'drop_activation'], 2)
    """
    torch.compiler.reset()  # each table compiles afresh, for its own shapes
    is_step, compiled = case.what == STEP, case.mode == "compiled"
    dtype = getattr(torch, case.dtype)
    names = chosen(plan.only, step=is_step)
    operations: dict[str, Operation] = {}
    if is_step:
        parts, contestants = STEP_PARTS, step_contestants(names, plan.device, plan.batch, compiled=compiled)
    else:
        x, grad = _tensors(case, plan.device, dtype)
        operations = prepare(names, compiled=compiled)
        parts, contestants = OPERATION_PARTS, operation_contestants(operations, x, grad)
    contestants, left_out = _able(contestants)
    backend = "inductor, from the torch definition" if compiled else serving(plan.device, dtype)
    about = (case.what, case.mode, case.dtype, case.shape, case.layout, backend)
    if BASELINE not in contestants:
        return Table(*about, rounds=0, calls=0, rows=(), noise=(), left_out=left_out)

    clock = clock_for(plan.device)
    calls = 1 if is_step else calls_per_turn(contestants[BASELINE], clock)
    with Watch() as watch:
        samples = interleave(contestants, clock, parts, plan.effort, calls=calls, lead_in=not is_step)
    baseline = samples[BASELINE]
    rows = []
    for name, taken in samples.items():
        figures = {part: compare(seconds, baseline[part]) for part, seconds in taken.items()}
        held = kept_for_backward(operations[name], x) if operations else None
        found = verdicts(name, case.mode, case.dtype, case.shape, samples) if plan.device == "cpu" else []
        found += kept_verdicts(name, case.mode, held) if held else []
        rows.append(Row(name, CANDIDATES[name].label, figures, held, tuple(found)))
    whole = baseline[list(parts)[-1]]
    return Table(*about, len(whole), calls, tuple(rows), tuple(noise(watch.others, spread(whole))), left_out)


def _tensors(case: Case, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    memory_format = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
    x, grad = (
        torch.randn(case.shape, generator=generator, device=device).to(dtype).contiguous(memory_format=memory_format)
        for _ in range(2)
    )
    return x.requires_grad_(), grad


def _able(contestants: Mapping[str, Contestant]) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Those that run, and why the others do not: no compiler, no kernel for the dtype. The first call compiles."""
    able, left_out = {}, {}
    for name, contestant in contestants.items():
        try:
            contestant(ignore)
            able[name] = contestant
        except RuntimeError as error:
            left_out[name] = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    return able, left_out
