"""The positive part of the input, or at random, element by element, the negative part: AID of ReLU.

Backward needs the output alone, as that of `drop_relu`, which it is.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact.kernels import reference
from dropact.kernels._dispatch import Operator, backend_for, in_place_serves, laid_out, on_device, transformed
from dropact.kernels.drop_relu import backward_op


def one_sided(x: Tensor, seed: Tensor, prob: float | Tensor, inplace: bool = False) -> Tensor:
    """``min(x, 0)`` with probability ``prob``, else ``max(x, 0)``; see :func:`dropact.kernels.reference.one_sided`."""
    if transformed():
        y = reference.one_sided(x, seed, prob)
    elif inplace and in_place_serves(x):
        _Inplace.apply(x, seed, on_device(prob, x))
        return x  # which comes back as another object where no gradient is recorded
    else:
        y = forward_op(x, seed, on_device(prob, x))
    return x.copy_(y) if inplace else y


def _forward(served: ModuleType, x: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
    out = torch.empty_like(x)
    served.one_sided(laid_out(x, out.stride()), seed, prob, out)
    return out


class _Forward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
        y = forward_op.compute(x, seed, prob)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return backward_op(grad, *ctx.saved_tensors), None, None


class _Inplace(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
        backend_for(x).one_sided(x, seed, prob, x)  # type: ignore[union-attr]
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    backward = _Forward.backward


forward_op = Operator(
    "one_sided(Tensor x, Tensor seed, Tensor prob) -> Tensor",
    reference.one_sided,
    _forward,
    _Forward,
    lambda x, seed, prob: torch.empty_like(x),
)
