"""Forward one function, backward another's derivative: what gradient acceleration and surrogate gradients stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact import kernels

Slope = Callable[[Tensor], Tensor]
Backward = Callable[[Tensor, Tensor], Tensor]  # of the gradient and x, linear in the gradient


def replace_derivative(x: Tensor, f: Callable[[Tensor], Tensor], backward: Backward) -> Tensor:
    """``f(x)``, with the gradient ``backward(grad, x)``; keeps ``x`` alone.

    >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> y = replace_derivative(x, torch.relu, times(lambda x: 0.5 * x))
    >>> y.sum().backward(); y.detach(), x.grad
    (tensor([0., 2.]), tensor([-0.5000,  1.0000]))

    ``f`` is computed without a graph, so parameters of its own would get no gradient. ``backward`` is differentiated
    again for derivatives of higher order, which are those of a function whose derivative it is.
    """
    if kernels.transformed():
        return (CarriedReplacedDerivative if kernels.forward_mode() else BatchedReplacedDerivative).apply(
            x, f, backward
        )
    return ReplacedDerivative.apply(x, f, backward)


def times(slope: Slope) -> Backward:
    """``grad * slope(x)``, the slope taken in float32 (float64 for float64 numbers) and the product rounded once.

    Raises:
        ValueError: the slope is not a tensor of the shape of ``x``.
    """

    def backward(grad: Tensor, x: Tensor) -> Tensor:
        return (slope_at(slope, wide(x)) * grad).to(grad.dtype)

    return backward


def slope_at(slope: Slope, x: Tensor) -> Tensor:
    s = slope(x)
    if not isinstance(s, Tensor) or s.shape != x.shape:
        came = f"shape {tuple(s.shape)}" if isinstance(s, Tensor) else repr(s)
        raise ValueError(f"{slope!r} must be elementwise: it turned shape {tuple(x.shape)} into {came}")
    return s


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, in which bfloat16 and float16 lose nothing of a slope; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


class ReplacedDerivative(Function):  # no jvp: the compiler refuses functions that have one
    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Callable[[Tensor], Tensor], backward: Backward) -> Tensor:
        ctx.save_for_backward(x)
        ctx.of_gradient = backward
        return f(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.of_gradient(grad, *ctx.saved_tensors), None, None


class BatchedReplacedDerivative(Function):
    """The same for torch.func, in the form that it asks for, which costs 20 us more."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, f: Callable[[Tensor], Tensor], backward: Backward) -> Tensor:
        return f(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.of_gradient = inputs
        ctx.save_for_backward(x)

    backward = ReplacedDerivative.backward


class CarriedReplacedDerivative(BatchedReplacedDerivative):
    """The same with tangents. ``backward`` is elementwise and linear in the gradient: it is its own transpose."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        BatchedReplacedDerivative.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return ctx.of_gradient(tangent, *ctx.saved_tensors)
