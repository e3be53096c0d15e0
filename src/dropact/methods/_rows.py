"""Rows of a tensor taken out and put back, for branches that are computed for some samples only."""

from __future__ import annotations

import torch
from torch import Tensor

from dropact._layout import inverse, storage_order


def select_rows(x: Tensor, index: Tensor) -> Tensor:
    order = _row_order(x)
    return x.permute(order).index_select(0, index).permute(inverse(order))


def add_rows(x: Tensor, index: Tensor, y: Tensor) -> Tensor:
    order = _row_order(x)
    return x.permute(order).index_add(0, index, y.permute(order)).permute(inverse(order))


def _row_order(x: Tensor) -> list[int]:
    """The dimensions as they lie in memory, where rows do: seen in another order, an index by row is several times
    slower and loses the format."""
    order = storage_order(x)
    return order if order[0] == 0 else list(range(x.dim()))


class AllAndSome(torch.autograd.Function):
    """A tensor, and some of its rows."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        return x.view_as(x), select_rows(x, index)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, of_all, of_some):  # type: ignore[no-untyped-def]
        (index,) = ctx.saved_tensors
        return add_rows(of_all, index, of_some), None


class Alone(torch.autograd.Function):
    """The shortcut without its branch, whose parameters get gradients of 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(shortcut: Tensor, *parameters: Tensor) -> Tensor:
        return shortcut.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)
