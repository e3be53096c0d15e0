"""Batch normalisation over the batch at hand, fused with a sum and an activation that follow it, in eager CPU code.

    y = act(batch_norm(x) + added)     act the identity, or ReLU, its nonlinearity dropped at random

torch's own operators read and write the activations once each, and its BatchNorm in bfloat16 with channels_last at a
fraction of what memory gives. Here the statistics are one pass, all that follows another, and backward two. What is
kept is what the separate operators keep: ``x`` and, where there is an activation, ``y``.

Whether something follows is not known when the BatchNorm is called: see `deferred.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from dropact.kernels import cpu, reference
from dropact.kernels._dispatch import eager_on_cpu, laid_out, plain

Drop = tuple[Tensor, Tensor]  # seed and drop_prob of a ReLU
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Moments:
    """What a batch normalises itself by: (C,) in float32, not differentiated through themselves."""

    mean: Tensor
    invstd: Tensor
    eps: float


def serves(x: Tensor, *of_channels: Tensor | None) -> bool:
    """Whether the fused operation is there for ``x``: of the C backend, dense with the channels innermost."""
    return (
        eager_on_cpu(x)
        and cpu.extension is not None
        and x.dtype in _DTYPES
        and x.dim() >= 2
        and x.movedim(1, -1).is_contiguous()
        and x.numel() > x.shape[1] > 0  # of one value there is no variance
        and not x.is_inference()  # such tensors do not count their changes
        and all(t is None or (t.dtype == torch.float32 and t.is_contiguous()) for t in of_channels)
    )


def moments(x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, factor: float, eps: float) -> Moments:
    """The moments of ``x`` (N, C, ...) per channel; running statistics move towards them by ``factor``, in place."""
    mean, invstd = torch.empty(2, x.shape[1], dtype=torch.float32).unbind()
    found = Moments(mean, invstd, eps)
    cpu.batch_norm_statistics(x.detach(), found.mean, found.invstd, running_mean, running_var, factor, eps)
    return found


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, added: Tensor | None, found: Moments, drop: Drop | None
) -> Tensor:
    """The kernel alone, nothing recorded."""
    out = torch.empty_like(x)
    added = None if added is None else laid_out(added, out.stride())
    cpu.batch_norm(x, added, found.mean, found.invstd, weight, bias, drop, out)
    return out


class BatchNorm(Function):
    """``apply(x, weight, bias, added, moments, drop, make)``; ``make``, if any, makes the result, not the kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        added: Tensor | None,
        found: Moments,
        drop: Drop | None,
        make: Any,
    ) -> Tensor:
        y = forward(x, weight, bias, added, found, drop) if make is None else make()
        ctx.found, ctx.has_added = found, added is not None
        ctx.save_for_backward(x, weight, bias, y if drop is not None else None)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, y = ctx.saved_tensors
        kernel = plain(grad) and not torch.is_grad_enabled()
        backward = _backward if kernel else _differentiable_backward
        gradients = backward(grad, x, weight, bias, y, ctx.has_added, ctx.found)
        needed = zip(gradients, ctx.needs_input_grad, strict=False)
        return *(gradient if need else None for gradient, need in needed), None, None, None


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    y: Tensor | None,
    has_added: bool,
    found: Moments,
) -> tuple[Tensor | None, ...]:
    to_x = torch.empty_like(x)
    grad = laid_out(grad, to_x.stride())
    to_weight, to_bias = torch.empty(2, x.shape[1], dtype=torch.float32).unbind()
    to_added = torch.empty_like(to_x) if has_added and y is not None else None
    cpu.batch_norm_backward(grad, y, x, found.mean, found.invstd, weight, to_x, to_added, to_weight, to_bias)
    return to_x, to_weight, to_bias, grad if y is None else to_added


def _differentiable_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    y: Tensor | None,
    has_added: bool,
    found: Moments,
) -> tuple[Tensor | None, ...]:
    """The same through torch's operators, for any gradient, to be differentiated again."""
    behind = grad if y is None else reference.drop_relu_backward(grad, y)
    inputs = [t for t in (x, weight, bias) if t is not None]
    with torch.enable_grad():
        normalised = reference.batch_norm(x, weight, bias, found.eps)
    found_gradients = iter(torch.autograd.grad(normalised, inputs, behind, create_graph=True, allow_unused=True))
    to = [None if t is None else next(found_gradients) for t in (x, weight, bias)]
    return *to, behind
