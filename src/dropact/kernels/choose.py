"""One of two tensors at random, element by element: any activation against the identity.

Backward keeps the seed and nothing else; forward and backward are each other's derivative.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact._random import is_chosen
from dropact.kernels import reference
from dropact.kernels._dispatch import Operator, laid_out, on_device, transformed


def choose(a: Tensor, b: Tensor, seed: Tensor, prob: float | Tensor) -> Tensor:
    """``a`` with probability ``prob``, else ``b``; see :func:`dropact.kernels.reference.choose`."""
    if transformed():
        return reference.choose(a, b, seed, prob)
    return forward_op(a, b, seed, on_device(prob, a))


def _forward(served: ModuleType, a: Tensor, b: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
    out = torch.empty_like(a)
    served.choose(laid_out(a, out.stride()), laid_out(b, out.stride()), seed, prob, out)
    return out


def _backward(served: ModuleType, grad: Tensor, seed: Tensor, prob: Tensor) -> tuple[Tensor, Tensor]:
    to_a, to_b = torch.empty_like(grad), torch.empty_like(grad)
    served.choose_backward(laid_out(grad, to_a.stride()), seed, prob, to_a, to_b)
    return to_a, to_b


class Choose(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, seed: Tensor, prob: Tensor) -> Tensor:
        # A copy: a schedule writes into the layer's buffer, and backward must draw the mask of this forward.
        ctx.save_for_backward(seed, prob.clone())
        out = forward_op.compute(a, b, seed, prob)
        ctx.strides = out.stride()
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # The mask goes by storage order: the gradient must stand in that of the forward pass.
        return *backward_op(laid_out(grad, ctx.strides), *ctx.saved_tensors), None, None


class ChooseGradient(Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, seed: Tensor, prob: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(seed, prob)
        to_a, to_b = backward_op.compute(grad, seed, prob)
        ctx.strides = to_a.stride()
        return to_a, to_b

    @staticmethod
    def backward(ctx: Any, grad_a: Tensor, grad_b: Tensor) -> tuple[Tensor | None, ...]:
        return forward_op(laid_out(grad_a, ctx.strides), grad_b, *ctx.saved_tensors), None, None


forward_op = Operator(
    "choose(Tensor a, Tensor b, Tensor seed, Tensor prob) -> Tensor",
    reference.choose,
    _forward,
    Choose,
    lambda a, b, seed, prob: torch.empty_like(a),
    of_part=lambda a, b, seed, prob, bits: torch.where(is_chosen(bits(seed), prob), a, b),
)
backward_op = Operator(
    "choose_backward(Tensor grad, Tensor seed, Tensor prob) -> (Tensor, Tensor)",
    reference.choose_backward,
    _backward,
    ChooseGradient,
    lambda grad, seed, prob: (torch.empty_like(grad), torch.empty_like(grad)),
)
