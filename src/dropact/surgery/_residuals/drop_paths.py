"""Modules that drop residual branches already, known by what they do: DropPath, StochasticDepth and their like."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

_RUNS, _ROWS = 64, 16
_SHAPES = (6, 4, 5), (6,), (6, 5), (3, 2, 2, 2)  # of a row; the first is that of an image
_PROBED = (0.25, 0.75)
_NEAR = 0.2  # almost four standard deviations of the share where there is one draw a run


@dataclass(frozen=True)
class Rate:
    """Where a module that drops branches has its rate; ``survival`` says whether that is of those kept, ``None`` that
    it is neither."""

    attribute: str
    survival: bool | None

    def at(self, survival: float) -> float:
        return survival if self.survival else 1 - survival


def rate_of(module: nn.Module) -> Rate | None:
    """The rate of a module which drops whole rows, or the whole batch; ``None`` for any other.

    >>> class DropPath(nn.Module):
    ...     def __init__(self, rate):
    ...         super().__init__()
    ...         self.rate = rate
    ...
    ...     def forward(self, x):
    ...         keep = torch.rand(len(x), *[1] * (x.dim() - 1)) >= self.rate
    ...         return x * keep / (1 - self.rate) if self.training else x
    >>> rate_of(DropPath(0.0)), rate_of(nn.Dropout(0.1)), rate_of(nn.Identity())
    (Rate(attribute='rate', survival=False), None, None)

    Tried on a copy, in training: every row of ones comes out as zeros or all alike, both are seen within the runs, and
    of an attribute that is a rate the share of the rows dropped follows two values, or that of the rows kept. So it is
    with every number of dimensions that the module takes: to ``nn.Dropout3d`` rows of four are channels.
    """
    if module._modules or module._parameters or type(module).forward is nn.Module.forward:
        return None
    undecided = None
    for name, value in vars(module).items():
        if type(value) in (int, float) and 0 <= value <= 1:
            shares = [_share_dropped(module, name, probe, _SHAPES[0], _RUNS) for probe in _PROBED]
            if None in [_share_dropped(module, name, _PROBED[-1], shape, _RUNS // 8) for shape in _SHAPES[1:]]:
                continue
            for survival, expected in ((False, _PROBED), (True, _PROBED[::-1])):
                if all(s is not None and abs(s - e) < _NEAR for s, e in zip(shares, expected, strict=True)):
                    return Rate(name, survival)
            if undecided is None and any(s is not None and 0.1 < s < 0.9 for s in shares):
                undecided = Rate(name, None)
    return undecided


def _share_dropped(module: nn.Module, attribute: str, value: float, shape: tuple[int, ...], runs: int) -> float | None:
    """The share of rows that come out as zeros; ``None`` where others come out changed by more than a factor. NaN where
    the module takes no such shape."""
    try:
        twin = copy.deepcopy(module).train()
        setattr(twin, attribute, value)
        with torch.device("cpu"), torch.no_grad(), torch.random.fork_rng(devices=[]):
            x, kept = torch.ones(_ROWS, *shape), []
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed every accelerator as well
            for _ in range(runs):
                y = twin.forward(x.clone())
                if not isinstance(y, torch.Tensor) or y.shape != x.shape:
                    return math.nan
                rows = y.flatten(1)
                if not bool((rows == rows[:, :1]).all()):
                    return None
                kept.append(rows[:, 0])
    except Exception:  # whatever a module does that is no such layer, or not for such a shape
        return math.nan
    values = torch.stack(kept)
    return float((values == 0).double().mean()) if len(values[values != 0].unique()) <= 1 else None
