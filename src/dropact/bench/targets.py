"""What the project set out to reach, held beside what was measured. A report: nothing fails here."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dropact.bench.candidates import BASELINE, CANDIDATES, COPY
from dropact.bench.ratios import compare
from dropact.bench.record import Verdict
from dropact.bench.saved import Kept
from dropact.bench.timing import Samples

LARGE, SMALL, STEP_IMAGES = (128, 64, 32, 32), (128, 64, 8, 8), (128, 3, 32, 32)
MEBI_64, MEBI_16 = (2**26,), (2**24,)
STEP_NETWORKS = {"cpu": ("resnet-20",), "cuda": ("resnet-18", "timm:vit_small_patch16_224")}
# Tensors that have to be read or written, forward and backward: a copy's two and two; two and three where backward
# reads something that forward has left.
_TENSORS_OF_COPY, _TENSORS = 4, 5
A_FEW_BYTES = 0.01  # per element: seeds and keys are a handful of bytes for a whole tensor


@dataclass(frozen=True)
class Target:
    """A bound on the median ratio of times: own over the baseline's, or a slower rival's over own ("times faster").

    Beside the copy it is a bound on the share of its bandwidth.
    """

    name: str
    mode: str
    part: str
    bound: float
    dtype: str | None = None  # any
    shapes: tuple[tuple[int, ...], ...] = ()  # any
    rival: str | None = None
    plain: str = BASELINE  # whose time is 1


_ON_CPU = (
    Target("drop_activation", "eager", "both", 1.12, "float32", (LARGE,)),
    Target("drop_activation", "eager", "both", 1.0, "bfloat16", (LARGE,)),
    Target("drop_activation", "eager", "both", 1.4, None, (SMALL,)),
    Target("drop_activation", "eager", "both", 5.0, "float32", (LARGE, SMALL), rival="rrelu"),
    Target("drop_activation", "eager", "both", 12.0, "bfloat16", (LARGE, SMALL), rival="rrelu"),
    Target("drop_activation", "eager", "both", 6.0, None, (LARGE, SMALL), rival="mask_arithmetic"),
    Target("randomized_relu", "eager", "both", 1.3, None, (LARGE,)),
    Target("gaaf", "eager", "both", 1.15, None, (LARGE,)),
    Target("drop_activation", "eager", "step", 1.02, None, (STEP_IMAGES,)),
    Target("drop_activation", "compiled", "step", 1.05, None, (STEP_IMAGES,)),
)
_PLAIN = {
    "drop_activation": BASELINE,
    "randomized_relu": BASELINE,
    "drop_activation_gelu": "gelu",
    "drop_activation_silu": "silu",
}
_ON_CUDA = (
    *(Target(name, "eager", "both", 1.05, None, (MEBI_64,), plain=plain) for name, plain in _PLAIN.items()),
    *(Target(name, "eager", "both", 0.85, None, (MEBI_64,), COPY) for name in _PLAIN),
    Target("drop_activation", "eager", "step", 1.02),
    Target("drop_activation", "compiled", "step", 1.03),
)
TARGETS: Mapping[str, tuple[Target, ...]] = {"cpu": _ON_CPU, "cuda": _ON_CUDA}


def share_of_copy(seconds: Sequence[float], copy: Sequence[float]) -> float:
    """The bandwidth of forward and backward as a share of the copy's.

    >>> share_of_copy([5.0], [4.0])
    1.0
    """
    return compare(copy, seconds).ratio * _TENSORS / _TENSORS_OF_COPY


def bandwidth_of_copy(seconds: Sequence[float], bytes_of_tensor: int) -> float:
    """Bytes per second, from the times of its forward and backward."""
    return _TENSORS_OF_COPY * bytes_of_tensor / statistics.median(seconds)


def verdicts(device: str, name: str, mode: str, dtype: str, shape: tuple[int, ...], samples: Samples) -> list[Verdict]:
    """The targets on time that `name` has in this table, each with what was measured and whether it is met.

    >>> samples = {"relu": {"step": [1.0]}, "drop_activation": {"step": [1.01]}}
    >>> verdicts("cpu", "drop_activation", "eager", "bfloat16", STEP_IMAGES, samples)
    [Verdict(text='step ≤ 1.02 × F.relu', value=1.01, bound=1.02, at_least=False, met=True)]
    """
    found = []
    for target in TARGETS[device]:
        applies = (target.name, target.mode) == (name, mode) and target.dtype in (None, dtype)
        if not applies or (target.shapes and shape not in target.shapes) or target.part not in samples[name]:
            continue
        own = samples[name][target.part]
        if target.rival is None:
            if target.plain not in samples:
                continue
            value = compare(own, samples[target.plain][target.part]).ratio
            text = f"{target.part} ≤ {target.bound:g} × {CANDIDATES[target.plain].label}"
            found.append(Verdict(text, value, target.bound, at_least=False, met=value <= target.bound))
        elif target.rival == COPY and COPY in samples:
            value = share_of_copy(own, samples[COPY][target.part])
            text = f"≥ {target.bound:g} of the copy's bandwidth"
            found.append(Verdict(text, value, target.bound, at_least=True, met=value >= target.bound))
        elif target.rival in samples:
            value = compare(samples[target.rival][target.part], own).ratio
            text = f"≥ {target.bound:g} × faster than {CANDIDATES[target.rival].label}"
            found.append(Verdict(text, value, target.bound, at_least=True, met=value >= target.bound))
    return found


def kept_verdicts(name: str, mode: str, kept: Kept) -> list[Verdict]:
    """The targets on memory, in bytes per element.

    >>> kept_verdicts("drop_activation", "eager", Kept(input=0.0, output=4.0, more=0.0))[0].met
    True
    """
    beyond: Mapping[str, tuple[str, float]] = {
        "drop_activation": ("the output", kept.input + kept.more),
        "randomized_relu": ("the output", kept.input + kept.more),
        "drop_activation_gelu": ("the input", kept.output + kept.more),
        "drop_activation_silu": ("the input", kept.output + kept.more),
        "gaaf": ("the input", kept.output + kept.more),
    }
    if mode != "eager" or name not in beyond:
        return []
    what, value = beyond[name]
    return [Verdict(f"0 bytes kept beyond {what}", value, 0.0, at_least=False, met=value < A_FEW_BYTES)]
