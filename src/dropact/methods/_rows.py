"""Rows of a tensor taken out and put back, for branches that are computed for some samples only."""

from __future__ import annotations

import torch
from torch import Tensor

from dropact._layout import inverse, storage_order
from dropact._sharding import is_sharded, of_parts


def select_rows(x: Tensor, index: Tensor) -> Tensor:
    if is_sharded(x):
        if any(placement.is_shard(0) for placement in x.placements):  # type: ignore[attr-defined]
            raise TypeError(
                "modes 'row' and 'subset' need whole rows on each rank, got a DTensor that is sharded in dimension 0: "
                "mode 'batch' or compute='masked' need none"
            )
        return of_parts(x, lambda part: select_rows(part, index), len(index))
    if (order := _row_order(x)) is None:
        return x.index_select(0, index)
    return x.permute(order).index_select(0, index).permute(inverse(order))


def add_rows(x: Tensor, index: Tensor, y: Tensor) -> Tensor:
    """A copy of ``x``, whose rows ``index``, each named once, have ``y`` added."""
    if torch.compiler.is_compiling():
        # By gathering, which a compiler fuses with what comes before and after; an addition by index it does alone, and
        # with atomic operations.
        place = index.new_full((x.shape[0],), -1).index_copy(0, index, torch.arange(len(index), device=index.device))
        there = (place >= 0).view(-1, *[1] * (x.dim() - 1))
        return torch.where(there, x + y[place.clamp(min=0)], x)
    out = torch.clone(x)  # which lies as x does, unless that was expanded
    if (order := _row_order(out)) is None:
        return out.index_add_(0, index, y)
    out.permute(order).index_add_(0, index, y.permute(order))
    return out


def _row_order(x: Tensor) -> list[int] | None:
    """The dimensions as they lie in memory, if rows do and in another order than they are named: an index by row is
    then several times slower and loses the format."""
    order = storage_order(x)
    return order if order[0] == 0 and order != sorted(order) else None


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


class SomeAdded(torch.autograd.Function):
    """A tensor to some rows of which another is added: one of its own, no view of it, which a caller may overwrite."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, index: Tensor, y: Tensor) -> Tensor:
        return add_rows(x, index, y)

    @staticmethod
    def setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (index,) = ctx.saved_tensors
        return gradient, None, select_rows(gradient, index)


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
