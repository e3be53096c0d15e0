"""The table of activations: what torch calls each, its stock module, whether it is a gate, what the kernels compute.

One row each, read by the methods, by the kernels and by surgery. A new activation of torch is one row here, and, to be
computed in one pass, a formula below and its lines in ``kernels/_cpu_activations.h`` and ``cuda_activations.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = str | Callable[[Tensor], Tensor]


def negative_part(x: Tensor) -> Tensor:
    """``-ReLU(-x)``: ``x`` where it is negative, else 0.

    >>> negative_part(torch.tensor([-2.0, 3.0]))
    tensor([-2.,  0.])
    """
    return torch.where(x >= 0, 0, x)


def silu_below_zero(x: Tensor) -> Tensor:
    """``x`` where it is not negative, else ``SiLU(x)``.

    >>> silu_below_zero(torch.tensor([-1.0, 3.0]))
    tensor([-0.2689,  3.0000])
    """
    return torch.where(x < 0, F.silu(x), x)


# What kernels compute, in plain torch: the definition, of x and the settings.
FORMULAS: dict[str, Callable[..., Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "negative_part": negative_part,
    "leaky_relu": F.leaky_relu,
    "hardtanh": F.hardtanh,
    "elu": lambda x, below, above, of_input: torch.ops.aten.elu(x, below / above, above, of_input),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "silu_below_zero": silu_below_zero,
    "mish": F.mish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}


class Fused(NamedTuple):
    """An activation that kernels compute: a formula's name, and its settings.

    >>> Fused("leaky_relu", (0.5,)).of(torch.tensor([-2.0, 2.0]))
    tensor([-1.,  2.])
    """

    name: str
    settings: tuple[float, ...] = ()

    def of(self, x: Tensor) -> Tensor:
        return FORMULAS[self.name](x, *self.settings)


IDENTITY = Fused("identity")
_SELU = 1.0507009873554805, 1.6732632423543772  # scale and alpha, as torch has them


@dataclass(frozen=True)
class Row:
    """An activation of torch: ``name`` is that of its function, ``module`` its class."""

    name: str
    module: type[nn.Module]
    fused: Callable[[Any], Fused] | None = None  # of a module with its settings
    gate: bool = False  # what is behind it relies on the range of its values
    named: bool = True  # a function of x alone, which may be given by name

    @property
    def function(self) -> Callable[[Tensor], Tensor]:
        return getattr(torch, self.name) if self.name in ("tanh", "sigmoid") else getattr(F, self.name)


def _plain(name: str) -> Callable[[nn.Module], Fused]:
    return lambda module: Fused(name)


TABLE = (
    Row("relu", nn.ReLU, _plain("relu")),
    Row("relu6", nn.ReLU6, lambda m: Fused("hardtanh", (0.0, 6.0))),
    Row("leaky_relu", nn.LeakyReLU, lambda m: Fused("leaky_relu", (m.negative_slope,))),
    Row("elu", nn.ELU, lambda m: Fused("elu", (m.alpha, 1.0, 1.0))),
    Row("selu", nn.SELU, lambda m: Fused("elu", (_SELU[0] * _SELU[1], _SELU[0], 1.0))),
    Row("celu", nn.CELU, lambda m: Fused("elu", (m.alpha, 1.0, 1.0 / m.alpha))),
    Row("gelu", nn.GELU, lambda m: Fused("gelu_tanh" if m.approximate == "tanh" else "gelu")),
    Row("silu", nn.SiLU, _plain("silu")),
    Row("mish", nn.Mish, _plain("mish")),
    Row("softplus", nn.Softplus, lambda m: Fused("softplus", (m.beta, m.threshold)), gate=True),
    Row("softsign", nn.Softsign, _plain("softsign")),
    Row("tanh", nn.Tanh, _plain("tanh")),
    Row("sigmoid", nn.Sigmoid, _plain("sigmoid"), gate=True),
    Row("hardtanh", nn.Hardtanh, lambda m: Fused("hardtanh", (m.min_val, m.max_val))),
    Row("hardswish", nn.Hardswish, _plain("hardswish")),
    Row("hardsigmoid", nn.Hardsigmoid, _plain("hardsigmoid"), gate=True),
    Row("logsigmoid", nn.LogSigmoid, _plain("logsigmoid")),
    Row("softshrink", nn.Softshrink, named=False),
    Row("hardshrink", nn.Hardshrink, named=False),
    Row("tanhshrink", nn.Tanhshrink, named=False),
    Row("threshold", nn.Threshold, named=False),
    Row("prelu", nn.PReLU, named=False),
)

BY_NAME = {row.name: row.function for row in TABLE if row.named}
# The stock module of each name; built without arguments it is that very function.
STOCK_MODULES: dict[str, type[nn.Module]] = {row.name: row.module for row in TABLE if row.named}
# Stock modules that apply one function to each element in train and eval mode alike.
ELEMENTWISE_MODULES = tuple(row.module for row in TABLE)
GATES = tuple(row.module for row in TABLE if row.gate)

_BY_CLASS = {row.module: row for row in TABLE}
_DEFAULT = {row.name: row.fused(row.module()) for row in TABLE if row.fused is not None}
# In every spelling: in torch.nn.functional, in torch and as a tensor's method.
_OF_FUNCTION: dict[Any, Fused] = {
    getattr(place, name): _DEFAULT[name] for name in BY_NAME for place in (F, torch, Tensor) if hasattr(place, name)
} | {negative_part: Fused("negative_part"), silu_below_zero: Fused("silu_below_zero")}


def fused(activation: Activation) -> Fused | None:
    """What the kernels compute for an activation, in any of its spellings; ``None``: they do not have it.

    >>> fused("gelu") == fused(F.gelu) == fused(nn.GELU()), fused(nn.LeakyReLU(0.2)), fused(torch.sin)
    (True, Fused(name='leaky_relu', settings=(0.2,)), None)
    """
    if isinstance(activation, str):
        return _DEFAULT.get(activation)
    if isinstance(activation, nn.Module):
        row = _BY_CLASS.get(type(activation))
        return None if row is None or row.fused is None else row.fused(activation)
    try:
        return _OF_FUNCTION.get(activation)
    except TypeError:  # a callable that cannot be hashed
        return None


def canonical(activation: Activation) -> str | None:
    """ "relu", "tanh" or "sigmoid" for these in any of their spellings, ``None`` for any other activation."""
    known = fused(activation)
    return known.name if known is not None and known.name in ("relu", "tanh", "sigmoid") else None


def is_relu(activation: Activation) -> bool:
    """Whether ``activation`` is plain ReLU in any of its spellings."""
    return canonical(activation) == "relu"
