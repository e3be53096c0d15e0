"""ReLU whose nonlinearity is dropped at random, element by element.

Forward draws the mask from (seed, storage index); backward needs the output alone, which the next layer keeps anyway:
the gradient passes where the output is not zero.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact._random import last_below, random_bits_like
from dropact.kernels import reference
from dropact.kernels._dispatch import (
    Operator,
    backend_for,
    in_place_serves,
    laid_out,
    on_device,
    plain,
    transformed,
)


def drop_relu(x: Tensor, seed: Tensor, drop_prob: float | Tensor, inplace: bool = False) -> Tensor:
    """``x`` where positive or dropped, else 0; see :func:`dropact.kernels.reference.drop_relu`."""
    if not torch.compiler.is_compiling() and not transformed() and plain(x):
        prob = drop_prob if x.is_cpu else on_device(drop_prob, x)  # a kernel of the CPU takes a number
        if not inplace:
            return DropReLU.apply(x, seed, prob) if torch.is_grad_enabled() else forward_op.eager(x, seed, prob)
        if in_place_serves(x):
            DropReLUInPlace.apply(x, seed, prob)
            return x  # which comes back as another object where no gradient is recorded
    y = reference.drop_relu(x, seed, drop_prob) if transformed() else forward_op(x, seed, on_device(drop_prob, x))
    return x.copy_(y) if inplace else y


def _traced(x: Tensor, seed: Tensor, drop_prob: float | Tensor) -> Tensor:
    # The definition's values, reading x once: a compiler computes what is read twice in a loop of its own, and the
    # activation was then not fused into the BatchNorm before it (a compiled ResNet-20 step 1.20 x ReLU's).
    last, floor = last_below(drop_prob, x.device)
    return torch.maximum(x, torch.where(random_bits_like(seed, x) <= last, floor.to(x.dtype), 0))


def _forward(served: ModuleType, x: Tensor, seed: Tensor, drop_prob: float | Tensor) -> Tensor:
    out = torch.empty_like(x)
    served.drop_relu(laid_out(x, out.stride()), seed, drop_prob, out)
    return out


def _backward(served: ModuleType, grad: Tensor, y: Tensor) -> Tensor:
    # In the output's layout, not the gradient's: the BatchNorm behind takes twice as long on mixed layouts.
    out = torch.empty_like(y)
    served.drop_relu_backward(laid_out(grad, out.stride()), laid_out(y, out.stride()), out)
    return out


class DropReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, drop_prob: float | Tensor) -> Tensor:
        number = not isinstance(drop_prob, Tensor)  # which no operator takes, but a kernel
        y = forward_op.eager(x, seed, drop_prob) if number else forward_op.compute(x, seed, drop_prob)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not (plain(y) and plain(grad)):
            return backward_op(grad, y), None, None
        return backward_op.eager(grad, y), None, None  # 5 us less


class DropReLUInPlace(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, drop_prob: float | Tensor) -> Tensor:
        backend_for(x).drop_relu(x, seed, drop_prob, x)  # type: ignore[union-attr]
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    backward = DropReLU.backward


class DropReLUGradient(Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return backward_op.compute(grad, y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return backward_op(grad, *ctx.saved_tensors), None


forward_op = Operator(
    "drop_relu(Tensor x, Tensor seed, Tensor drop_prob) -> Tensor",
    reference.drop_relu,
    _forward,
    DropReLU,
    lambda x, seed, drop_prob: torch.empty_like(x),
    traced=_traced,
)
backward_op = Operator(
    "drop_relu_backward(Tensor grad, Tensor y) -> Tensor",
    reference.drop_relu_backward,
    _backward,
    DropReLUGradient,
    lambda grad, y: torch.empty_like(y),
)
