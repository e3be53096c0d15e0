"""What is given to a layer in place of a dense tensor: a proxy of ``torch.fx``, and nested tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from dropact._arguments import check_input


def special(layer: nn.Module, x: Any) -> Any:
    """What a layer gives for one of them: a call of itself as a leaf of the graph, or itself of the values.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(x, torch.fx.Proxy):
        return leaf(layer, x)
    check_input(x, type(layer).__name__)
    if getattr(layer, "granularity", "element") != "element":
        raise TypeError(f"granularity={layer.granularity!r} needs a dense tensor, got a nested one")
    return of_values(layer.forward, x)


def leaf(layer: nn.Module, *args: Any) -> Any:
    """A node that calls ``layer``: it keeps its mode and its rate, as a stock activation does, whoever traces."""
    tracer = args[0].tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), args, {})


def of_values(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise ``function`` of a nested tensor, of the memory that holds its values: masks follow that."""
    if x.layout == torch.jagged:
        jagged: Any = x
        seqlens = jagged._maybe_min_seqlen, jagged._maybe_max_seqlen
        values, made = function(x.values()), torch.nested.nested_tensor_from_jagged
        return made(values, jagged.offsets(), jagged._lengths, jagged._ragged_idx, *seqlens)
    parts = x.unbind()
    sizes = [part.numel() for part in parts]
    flat = function(torch.cat([part.reshape(-1) for part in parts])) if parts else x
    pieces = zip(flat.split(sizes), parts, strict=True)
    return torch.nested.as_nested_tensor([piece.view(part.shape) for piece, part in pieces])
