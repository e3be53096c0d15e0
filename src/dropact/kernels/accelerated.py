"""The backward pass of an activation whose slope is accelerated: one pass over gradient and input.

Forward is the activation itself. Backward needs the input, of which ReLU's output has lost the negative half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dropact.kernels import reference
from dropact.kernels._dispatch import backend_of_backward, laid_out


def accelerated_backward(grad: Tensor, x: Tensor, activation: str, a: float, b: float, cap: float) -> Tensor:
    """See :func:`dropact.kernels.reference.accelerated_backward`, which is also what is differentiated again."""
    served = backend_of_backward(grad, x)
    if served is None:
        return reference.accelerated_backward(grad, x, activation, a, b, cap)
    out = torch.empty_like(x)
    served.accelerated_backward(laid_out(grad, out.stride()), laid_out(x, out.stride()), activation, a, b, cap, out)
    return out
