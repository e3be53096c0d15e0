"""ReLU, or at random, element by element, what is negative through SiLU: StochA of ReLU.

Backward keeps the input, as SiLU's does, and draws the mask again. Equal to the definition to a few units in the last
place of float32: an exponential is rounded as its implementation likes.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact.kernels import reference
from dropact.kernels._dispatch import (
    Operator,
    backend_of_backward,
    has_exponential,
    laid_out,
    on_device,
    transformed,
)


def relu_or_silu(x: Tensor, seed: Tensor, prob: float | Tensor, inplace: bool = False) -> Tensor:
    """``x`` where it is not negative, else ``SiLU(x)`` with probability ``prob``, else 0; see
    :func:`dropact.kernels.reference.relu_or_silu`. ``inplace`` saves nothing."""
    if transformed():
        y = reference.relu_or_silu(x, seed, prob)
    else:
        y = forward_op(x.clone() if inplace else x, seed, on_device(prob, x))
    return x.copy_(y) if inplace else y


def _forward(served: ModuleType, x: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
    if not has_exponential(served, x):
        return reference.relu_or_silu(x, seed, prob)
    out = torch.empty_like(x)
    served.relu_or_silu(laid_out(x, out.stride()), seed, prob, out)
    return out


def _backward(grad: Tensor, x: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
    """In the layout of the output, which is that of ``x`` or, where that one has gaps, of its copy."""
    out = torch.empty_like(x)
    grad, x = laid_out(grad, out.stride()), laid_out(x, out.stride())
    served = backend_of_backward(grad, x)
    if served is None:
        return reference.relu_or_silu_backward(grad, x, seed, prob)
    served.relu_or_silu_backward(grad, x, seed, prob, out)
    return out


class _Forward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
        # A copy: a schedule writes into the layer's buffer, and backward must draw the mask of this forward.
        ctx.save_for_backward(x, seed, prob.clone())
        return forward_op.compute(x, seed, prob)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _backward(grad, *ctx.saved_tensors), None, None


forward_op = Operator(
    "relu_or_silu(Tensor x, Tensor seed, Tensor prob) -> Tensor",
    reference.relu_or_silu,
    _forward,
    _Forward,
    lambda x, seed, prob: torch.empty_like(x),
)
