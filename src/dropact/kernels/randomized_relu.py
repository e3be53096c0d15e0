"""ReLU whose negative slope is drawn from U(lower, upper), element by element.

Backward keeps the output and the seed: the slopes are drawn again where the output is not positive.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact.kernels import reference
from dropact.kernels._dispatch import Operator, backend_for, in_place_serves, laid_out, transformed


def randomized_relu(x: Tensor, seed: Tensor, lower: float, upper: float, inplace: bool = False) -> Tensor:
    """``x`` where positive, else ``slope * x``; see :func:`dropact.kernels.reference.randomized_relu`."""
    if transformed():
        y = reference.randomized_relu(x, seed, lower, upper)
    elif inplace and in_place_serves(x):
        RandomizedReLUInPlace.apply(x, seed, lower, upper)
        return x  # which comes back as another object where no gradient is recorded
    else:
        y = forward_op(x, seed, lower, upper)
    return x.copy_(y) if inplace else y


def _forward(served: ModuleType, x: Tensor, seed: Tensor, lower: float, upper: float) -> Tensor:
    out = torch.empty_like(x)
    served.randomized_relu(laid_out(x, out.stride()), seed, lower, upper, out)
    return out


def _of_part(x: Tensor, seed: Tensor, lower: float, upper: float, bits: Callable[[Tensor], Tensor]) -> Tensor:
    return reference.sloped_relu(x, reference.slopes(bits(seed), lower, upper, x.dtype))


def _backward(served: ModuleType, grad: Tensor, y: Tensor, seed: Tensor, lower: float, upper: float) -> Tensor:
    out = torch.empty_like(y)
    served.randomized_relu_backward(laid_out(grad, out.stride()), laid_out(y, out.stride()), seed, lower, upper, out)
    return out


class RandomizedReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, lower: float, upper: float) -> Tensor:
        y = forward_op.compute(x, seed, lower, upper)
        ctx.save_for_backward(y, seed)
        ctx.bounds = lower, upper
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return backward_op(grad, *ctx.saved_tensors, *ctx.bounds), None, None, None


class RandomizedReLUInPlace(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: Tensor, lower: float, upper: float) -> Tensor:
        backend_for(x).randomized_relu(x, seed, lower, upper, x)  # type: ignore[union-attr]
        ctx.mark_dirty(x)
        ctx.save_for_backward(x, seed)
        ctx.bounds = lower, upper
        return x

    backward = RandomizedReLU.backward


class RandomizedReLUGradient(Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor, seed: Tensor, lower: float, upper: float) -> Tensor:
        ctx.save_for_backward(y, seed)
        ctx.bounds = lower, upper
        return backward_op.compute(grad, y, seed, lower, upper)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return backward_op(grad, *ctx.saved_tensors, *ctx.bounds), None, None, None, None


forward_op = Operator(
    "randomized_relu(Tensor x, Tensor seed, float lower, float upper) -> Tensor",
    reference.randomized_relu,
    _forward,
    RandomizedReLU,
    lambda x, seed, lower, upper: torch.empty_like(x),
    of_part=_of_part,
)
backward_op = Operator(
    "randomized_relu_backward(Tensor grad, Tensor y, Tensor seed, float lower, float upper) -> Tensor",
    reference.randomized_relu_backward,
    _backward,
    RandomizedReLUGradient,
    lambda grad, y, seed, lower, upper: torch.empty_like(y),
)
