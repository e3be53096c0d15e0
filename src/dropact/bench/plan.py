"""What is to be measured, case by case, and the measuring of one case."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from dropact.bench.candidates import BASELINE, CANDIDATES, COPY, chosen
from dropact.bench.machine import Watch, noise, serving
from dropact.bench.operations import OPERATION_PARTS, Operation, operation_contestants, prepare
from dropact.bench.ratios import compare, spread
from dropact.bench.record import Row, Table
from dropact.bench.saved import allocated, kept_for_backward, peak_bytes
from dropact.bench.step import STEP_PARTS, step_contestants
from dropact.bench.targets import (
    LARGE,
    MEBI_16,
    MEBI_64,
    SMALL,
    STEP_NETWORKS,
    bandwidth_of_copy,
    kept_verdicts,
    share_of_copy,
    verdicts,
)
from dropact.bench.timing import Clock, Contestant, Effort, HostClock, calls_per_turn, clock_for, ignore, interleave

OPERATION = "operation"
STEPS = {  # how tables call a step of each network
    "resnet-20": "ResNet-20 training step",
    "resnet-18": "ResNet-18 training step",
    "timm:vit_small_patch16_224": "ViT-small training step",
}
SIDES = {"timm:vit_small_patch16_224": 224}  # of the images, else 32
STEP_CALLS_AHEAD = 10  # a host that has steps to ask for runs ahead of its GPU, as in training


@dataclass(frozen=True)
class Case:
    """One table to be."""

    what: str
    mode: str  # eager | compiled
    dtype: str
    shape: tuple[int, ...]
    layout: str  # contiguous | channels_last
    network: str | None = None  # whose step it is


@dataclass(frozen=True)
class Plan:
    """A whole benchmark.

    >>> len(Plan().cases())
    18

    Args:
        accelerator: whether there is what a GPU's tables have besides: the copy, the host's time, a wide network's
            memory.
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
    def usual(cls, device: str) -> "Plan":
        """What is measured on a device unless something else is asked for.

        >>> Plan.usual("cuda").dtypes
        ('float32', 'bfloat16')
        """
        if device == "cpu":
            return cls()
        return cls(device=device, shapes=(MEBI_64, MEBI_16), accelerator=True)

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
        for network, mode in product(STEP_NETWORKS[self.device] * self.step, self.modes):
            side = SIDES.get(network, 32)
            shape = (self.batch, 3, side, side)
            found.append(Case(STEPS[network], mode, "bfloat16", shape, "channels_last", network))
        return found


def measure(case: Case, plan: Plan) -> Table:
    """Measures one case: checks who can run, warms up, takes turns.

    >>> plan = Plan(shapes=((2, 3),), only=("drop_activation",), effort=Effort(rounds=2))
    >>> table = measure(plan.cases()[0], plan)
    >>> [row.name for row in table.rows], table.rounds
    (['relu', 'drop_activation'], 2)
    """
    torch.compiler.reset()  # each table compiles afresh, for its own shapes
    compiled = case.mode == "compiled"
    dtype = getattr(torch, case.dtype)
    operations: dict[str, Operation] = {}
    peaks: dict[str, int | None] = {}
    if case.network is not None:
        parts = STEP_PARTS
        names = chosen(plan.only, step=True)
        contestants: dict[str, Contestant] = {}
        left_out: dict[str, str] = {}
        for name in names:
            before = allocated(plan.device)
            one = step_contestants([name], plan.device, case.shape, case.network, compiled=compiled)
            able, unable = _able(one)
            contestants |= able
            left_out |= unable
            peaks |= {name: peak_bytes(able[name], plan.device, before) for name in able}
    else:
        parts = OPERATION_PARTS
        x, grad = _tensors(case, plan.device, dtype)
        operations = prepare(chosen(plan.only, step=False, copy=plan.accelerator), compiled=compiled)
        contestants, left_out = _able(operation_contestants(operations, x, grad))
    backend = "inductor, from the torch definition" if compiled else serving(plan.device, dtype)
    about = (case.what, case.mode, case.dtype, case.shape, case.layout, backend)
    if BASELINE not in contestants:
        return Table(*about, rounds=0, calls=0, rows=(), noise=(), left_out=left_out)

    # An operation's own time on the device; a step as it comes, for a host that is too slow makes training slow.
    clock = clock_for(plan.device, ahead=case.network is None)
    if case.network is None:
        calls = calls_per_turn(contestants[BASELINE], clock)
    else:
        calls = STEP_CALLS_AHEAD if plan.accelerator else 1
    lead_in = case.network is None or plan.accelerator
    with Watch() as watch:
        samples = interleave(contestants, clock, parts, plan.effort, calls=calls, lead_in=lead_in)
        if case.network is None and plan.accelerator:
            host = interleave(contestants, _host_clock(plan.device), {"host": (0, 2)}, plan.effort, calls=calls)
            samples = {name: host[name] | taken for name, taken in samples.items()}
    baseline = samples[BASELINE]
    whole = list(parts)[-1]
    copied = samples[COPY][whole] if COPY in samples else None
    rows = []
    for name, taken in samples.items():
        figures = {part: compare(seconds, baseline[part]) for part, seconds in taken.items()}
        held = kept_for_backward(operations[name], x) if operations else None
        asked = (plan.device, name, case.mode, case.dtype, case.shape)
        found = verdicts(*asked, samples)
        found += kept_verdicts(name, case.mode, held) if held else []
        share = share_of_copy(taken[whole], copied) if copied and name != COPY else None
        label = CANDIDATES[name].label
        rows.append(Row(name, label, figures, held, tuple(found), share, peaks.get(name)))
    rounds, doubts = len(baseline[whole]), tuple(noise(watch.others, spread(baseline[whole])))
    bandwidth = bandwidth_of_copy(copied, x.untyped_storage().nbytes()) if copied else None
    return Table(*about, rounds, calls, tuple(rows), doubts, left_out, bandwidth)


def _host_clock(device: str) -> Clock:
    return HostClock() if device == "cuda" else clock_for(device)


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
