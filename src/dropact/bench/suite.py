"""What is to be measured, case by case, and the measuring of one case."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from dropact.bench.calls import OPERATION_PARTS, STEP_PARTS, Operation, operation_calls, prepare, step_calls
from dropact.bench.candidates import BASELINE, CANDIDATES, COPY, chosen
from dropact.bench.machine import Watch, noise, serving
from dropact.bench.ratios import bandwidth_of_copy, compare, share_of_copy, spread
from dropact.bench.record import Table, Timing
from dropact.bench.saved import allocated, kept_for_backward, peak_bytes
from dropact.bench.timing import Call, Clock, Effort, HostClock, calls_per_turn, clock_for, ignore, interleave

LARGE, SMALL = (128, 64, 32, 32), (128, 64, 8, 8)
MEBI_64, MEBI_16 = (2**26,), (2**24,)
OPERATION = "operation"
STEP_NETWORKS = {"cpu": ("resnet-20",), "cuda": ("resnet-18", "timm:vit_small_patch16_224")}
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
class Suite:
    """A whole benchmark.

    >>> len(Suite().cases())
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


def measure(case: Case, suite: Suite) -> Table:
    """Measures one case: checks who can run, warms up, takes turns.

    >>> suite = Suite(shapes=((2, 3),), only=("drop_activation",), effort=Effort(rounds=2))
    >>> table = measure(suite.cases()[0], suite)
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
        names = chosen(suite.only, step=True)
        calls_of: dict[str, Call] = {}
        left_out: dict[str, str] = {}
        for name in names:
            before = allocated(suite.device)
            one = step_calls([name], suite.device, case.shape, case.network, compiled=compiled)
            able, unable = _able(one)
            calls_of |= able
            left_out |= unable
            peaks |= {name: peak_bytes(able[name], suite.device, before) for name in able}
    else:
        parts = OPERATION_PARTS
        x, grad = _tensors(case, suite.device, dtype)
        operations = prepare(chosen(suite.only, step=False, copy=suite.accelerator), compiled=compiled)
        calls_of, left_out = _able(operation_calls(operations, x, grad))
    backend = "inductor, from the torch definition" if compiled else serving(suite.device, dtype)
    about = (case.what, case.mode, case.dtype, case.shape, case.layout, backend)
    if BASELINE not in calls_of:
        return Table(*about, rounds=0, calls=0, rows=(), noise=(), left_out=left_out)

    # An operation's own time on the device; a step as it comes, for a host that is too slow makes training slow.
    clock = clock_for(suite.device, ahead=case.network is None)
    if case.network is None:
        calls = calls_per_turn(calls_of[BASELINE], clock)
    else:
        calls = STEP_CALLS_AHEAD if suite.accelerator else 1
    lead_in = case.network is None or suite.accelerator
    with Watch() as watch:
        samples = interleave(calls_of, clock, parts, suite.effort, calls=calls, lead_in=lead_in)
        if case.network is None and suite.accelerator:
            host = interleave(calls_of, _host_clock(suite.device), {"host": (0, 2)}, suite.effort, calls=calls)
            samples = {name: host[name] | taken for name, taken in samples.items()}
    baseline = samples[BASELINE]
    whole = list(parts)[-1]
    copied = samples[COPY][whole] if COPY in samples else None
    rows = []
    for name, taken in samples.items():
        figures = {part: compare(seconds, baseline[part]) for part, seconds in taken.items()}
        held = kept_for_backward(operations[name], x) if operations else None
        share = share_of_copy(taken[whole], copied) if copied and name != COPY else None
        label = CANDIDATES[name].label
        rows.append(Timing(name, label, figures, held, share, peaks.get(name)))
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


def _able(calls_of: Mapping[str, Call]) -> tuple[dict[str, Call], dict[str, str]]:
    """Those that run, and why the others do not: no compiler, no kernel for the dtype. The first call compiles."""
    able, left_out = {}, {}
    for name, call in calls_of.items():
        try:
            call(ignore)
            able[name] = call
        except RuntimeError as error:
            left_out[name] = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    return able, left_out
