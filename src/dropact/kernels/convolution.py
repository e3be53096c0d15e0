"""A 3×3 convolution in bfloat16 whose weights get their gradient from a kernel of ours, in eager CPU code.

    dL/dw[o, i, kh, kw] = sum over n, h, w of dL/dy[n, o, h, w] x[n, i, S h + kh - 1, S w + kw - 1]      S = 1, 2

The convolution itself and the gradient of its input are torch's. The gradient of the weights takes oneDNN, without
AMX, more of a step than either, with stride 2 above all. Here it comes in float32, as the weights are kept, and its
bits do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from dropact.kernels import cpu
from dropact.kernels._dispatch import eager_on_cpu, plain

# Pairs of an input and an output channel: the sums of one part of a batch stay in a core's second cache.
_MOST = 8192


def serves(x: Tensor, weight: Tensor, stride: tuple[int, ...]) -> bool:
    """Whether the gradient of ``weight`` (O, I, 3, 3) for the images ``x`` is there, the padding being 1."""
    return (
        eager_on_cpu(x)
        and x.dtype == torch.bfloat16
        and (weight.dtype == torch.bfloat16 or _autocast())
        and weight.requires_grad
        and torch.is_grad_enabled()
        and cpu.has_weights_gradient()
        and serves_weights(weight, stride)
        and x.dim() == 4
        and len(x) > 0
        and weight.shape[1] == x.shape[1]
        and x.shape[2] % stride[0] == 0 < x.shape[2]
        and x.shape[3] % (2 * stride[0]) == 0 < x.shape[3]
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def serves_weights(weight: Tensor, stride: tuple[int, ...]) -> bool:
    """Whether the gradient of such weights is there, for the right images."""
    return (
        weight.shape[2:] == (3, 3)
        and stride in ((1, 1), (2, 2))
        and weight.shape[0] % 16 == weight.shape[1] % 16 == 0
        and weight.shape[0] * weight.shape[1] <= _MOST
    )


def _autocast() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def convolution(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """``F.conv2d(x, weight, stride=stride, padding=1)`` for what `serves`."""
    return _Convolution.apply(x, weight, stride)


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        rounded = weight.to(x.dtype)
        ctx.save_for_backward(x, weight, rounded)
        ctx.stride = stride
        return F.conv2d(x, rounded, stride=stride, padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rounded = ctx.saved_tensors
        if torch.is_grad_enabled() or not plain(grad):  # to be differentiated again, say: through torch's operators
            to_x, to_weight = _torch_backward(grad, x, weight.to(x.dtype), ctx.stride, list(ctx.needs_input_grad[:2]))
            return to_x, None if to_weight is None else to_weight.to(weight.dtype), None
        to_x = _torch_backward(grad, x, rounded, ctx.stride, [True, False])[0] if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_x, None, None
        to_weight = torch.empty_like(weight, dtype=torch.float32)
        cpu.weights_gradient(x, grad.contiguous(memory_format=torch.channels_last), ctx.stride, to_weight)
        return to_x, to_weight.to(weight.dtype), None


def _torch_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, needed: list[bool]
) -> tuple[Tensor | None, Tensor | None]:
    twice, mask = [stride, stride], [*needed, False]
    found = torch.ops.aten.convolution_backward(grad, x, weight, None, twice, [1, 1], [1, 1], False, [0, 0], 1, mask)
    return found[0], found[1]
