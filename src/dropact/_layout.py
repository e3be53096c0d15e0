"""The order of a tensor's dimensions in memory."""

from __future__ import annotations

from torch import Tensor, empty_like


def storage_order(x: Tensor) -> list[int]:
    """The dimensions of ``torch.empty_like(x)``, the slowest first.

    >>> import torch
    >>> storage_order(torch.empty(1, 2, 3, 4).to(memory_format=torch.channels_last))
    [0, 2, 3, 1]
    """
    if x.is_contiguous():
        return list(range(x.dim()))
    strides = empty_like(x).stride()
    return sorted(range(x.dim()), key=lambda d: (strides[d], x.shape[d]), reverse=True)


def inverse(order: list[int]) -> list[int]:
    """The permutation that undoes ``order``.

    >>> inverse([0, 2, 3, 1])
    [0, 3, 1, 2]
    """
    return sorted(range(len(order)), key=order.__getitem__)
