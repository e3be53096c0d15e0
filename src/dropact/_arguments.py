"""What every function checks the same way: one sentence that names what came and what is accepted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_input(x: Tensor, who: str) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{who} needs a tensor, got {type(x).__name__}")
    if x.dtype not in FLOATING:
        accepted = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATING)
        raise TypeError(f"{who} needs a floating-point tensor ({accepted}), got {x.dtype}")


def check_probability(value: float | Tensor, name: str) -> float | Tensor:
    """A float in [0, 1], or a 0-d floating tensor, whose value is not read (that would wait for the device)."""
    if isinstance(value, Tensor):
        if value.dim() != 0 or not value.is_floating_point():
            came = f"a {value.dtype} tensor of shape {tuple(value.shape)}"
            raise TypeError(f"{name} must be a number or a 0-d floating tensor, got {came}")
        if value.requires_grad:
            raise ValueError(f"{name} requires a gradient, which no draw has: pass {name}.detach()")
        return value
    return check_number(value, name, low=0.0, high=1.0)


def check_number(value: float, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not low <= value <= high or math.isinf(value):  # also refuses NaN
        least = "(-inf" if low == -math.inf else f"[{low:g}"
        most = "inf)" if high == math.inf else f"{high:g}]"
        raise ValueError(f"{name} must lie in {least}, {most}, got {value!r}")
    return float(value)


def check_positive(value: float, name: str) -> float:
    if check_number(value, name) <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return float(value)


def check_broadcast(mask: Tensor, x: Tensor) -> None:
    padded = (1,) * (x.dim() - mask.dim()) + tuple(mask.shape)
    if len(padded) != x.dim() or any(m not in (1, n) for m, n in zip(padded, x.shape, strict=True)):
        raise ValueError(f"mask of shape {tuple(mask.shape)} does not broadcast to the input's {tuple(x.shape)}")


def check_mask(mask: Tensor, seed: object) -> None:
    """A boolean tensor, and no seed beside it."""
    if seed is not None:
        raise ValueError("seed and mask both given: the mask already says what is dropped, pass one of them")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"mask must be a boolean tensor, got {getattr(mask, 'dtype', type(mask).__name__)}")


def check_choice(value: str, name: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")
    return value
