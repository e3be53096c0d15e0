"""Modules that drop residual branches already, known by what they do: DropPath, StochasticDepth and their like."""

from __future__ import annotations

import copy

import torch
from torch import nn

_ROWS = 64


def rate_attribute(module: nn.Module) -> str | None:
    """The attribute that holds the drop rate of a module which drops whole rows, or the whole batch; else ``None``.

    >>> class DropPath(nn.Module):
    ...     def __init__(self, rate):
    ...         super().__init__()
    ...         self.rate = rate
    ...
    ...     def forward(self, x):
    ...         keep = torch.rand(len(x), *[1] * (x.dim() - 1)) >= self.rate
    ...         return x * keep / (1 - self.rate) if self.training else x
    >>> rate_attribute(DropPath(0.0)), rate_attribute(nn.Dropout(0.1)), rate_attribute(nn.Identity())
    ('rate', None, None)

    Tried on a copy, in training, at a rate of one half: every row of ones comes out as zeros or all alike, both are
    seen within a few runs, and about half of the rows at that.
    """
    if module._modules or module._parameters or type(module).forward is nn.Module.forward:
        return None
    numbers = [name for name, value in vars(module).items() if type(value) in (int, float) and 0 <= value <= 1]
    for name in numbers:
        try:
            twin = copy.deepcopy(module).train()
            setattr(twin, name, 0.5)
            if _drops_rows(twin):
                return name
        except Exception:  # whatever a module does that is no such layer
            continue
    return None


def _drops_rows(module: nn.Module) -> bool:
    x = torch.ones(_ROWS, 6, 4, 5)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed every accelerator as well
        outputs = [module.forward(x.clone()) for _ in range(16)]
    if any(not isinstance(y, torch.Tensor) or y.shape != x.shape for y in outputs):
        return False
    rows = torch.stack(outputs).flatten(2)
    if not bool((rows == rows[..., :1]).all()):
        return False
    kept = rows[..., 0]
    share = float((kept != 0).double().mean())
    return len(kept[kept != 0].unique()) == 1 and 0.1 < share < 0.9
