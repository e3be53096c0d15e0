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
    order: list[int] = []
    for d in range(x.dim()):  # `sorted` needs keys that a compiler knows: here it may ask, and guards the answer
        place = len(order)
        while place and _is_slower(strides[d], x.shape[d], strides[order[place - 1]], x.shape[order[place - 1]]):
            place -= 1
        order.insert(place, d)
    return order


def _is_slower(stride: int, size: int, other_stride: int, other_size: int) -> bool:
    return size > other_size if stride == other_stride else stride > other_stride


def inverse(order: list[int]) -> list[int]:
    """The permutation that undoes ``order``.

    >>> inverse([0, 2, 3, 1])
    [0, 3, 1, 2]
    """
    return sorted(range(len(order)), key=order.__getitem__)
