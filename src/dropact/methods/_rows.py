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
    """The shortcut without its branch. What the branch reads, parameters and arguments, gets gradients of 0, and so
    does what comes before it: where one is None, and there at the next step, DistributedDataParallel stops."""

    generate_vmap_rule = True

    @staticmethod
    def forward(shortcut: Tensor, *read: Tensor) -> Tensor:
        return shortcut.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        # Shapes rather than tensors: arguments need not be kept, and FSDP frees the memory of parameters until then.
        ctx.shapes = [(t.shape, t.dtype, t.device) if _is_plain(t) else None for t in inputs[1:]]
        ctx.save_for_backward(*(t for t in inputs[1:] if not _is_plain(t)))

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        others = iter(ctx.saved_tensors)
        zeros = (
            torch.zeros_like(next(others)) if found is None else torch.zeros(found[0], dtype=found[1], device=found[2])
            for found in ctx.shapes
        )
        return gradient, *zeros


def _is_plain(t: Tensor) -> bool:
    return type(t) in (Tensor, torch.nn.Parameter)
