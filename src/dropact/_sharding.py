"""Tensors of which each rank has a part (DTensor): operations on the parts, with the bits of the whole.

A mask is a function of the position in memory, so that a part can have the bits that its elements have in the whole
tensor, and replicas the same. No rank tells another anything but, once for each device mesh, its seed: ranks must draw
the same, from generators seeded alike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dropact._random import random_bits

_agreed: set[Any] = set()  # device meshes; for good, as ranks that forgot one at other times would wait for each other


def is_sharded(x: Any) -> bool:
    """Whether it is a DTensor, which nobody can have before the second that their import takes."""
    if type(x) is Tensor:
        return False
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def of_parts(x: Any, function: Callable[[Tensor], Tensor], rows: int | None = None) -> Any:
    """``function`` of each rank's part, as parts of a tensor of the shape of ``x``, or of so many rows."""
    from torch.distributed.tensor import DTensor

    placements = whole_values(x)
    shape = x.shape if rows is None else torch.Size((rows, *x.shape[1:]))
    stride = _memory(x).stride()
    y = function(part_of(x, placements))
    return DTensor.from_local(y, x.device_mesh, placements, run_check=False, shape=shape, stride=stride)


def whole_values(x: Any) -> tuple[Any, ...]:
    """The placements of ``x``, with replicas where ranks hold summands."""
    from torch.distributed.tensor import Replicate

    return tuple(Replicate() if placement.is_partial() else placement for placement in x.placements)


def part_of(x: Any, placements: tuple[Any, ...]) -> Tensor:
    """This rank's part of ``x``, a DTensor, or any other tensor, every rank's own copy of the same values."""
    if not is_sharded(x):
        return x
    if tuple(x.placements) != placements:
        x = x.redistribute(placements=placements)
    return x.to_local(grad_placements=placements)


def replicated(value: Tensor, like: Any) -> Any:
    """A tensor that all ranks have, as one that can be computed with ``like``."""
    if not is_sharded(like):
        return value
    from torch.distributed.tensor import DTensor, Replicate

    return DTensor.from_local(value, like.device_mesh, [Replicate()] * like.device_mesh.ndim, run_check=False)


def bits_of_part(seed: Tensor, x: Any) -> Tensor:
    """``random_bits_like`` of the whole of ``x``, where this rank's part of it lies.

    Raises:
        TypeError: it is not sharded by torch's rule for chunks.
        RuntimeError: the ranks have other seeds.
    """
    _agree(seed, x.device_mesh)
    index = torch.zeros((), dtype=torch.int64, device=x.device)
    strides = _memory(x).stride()
    for d, (start, size) in enumerate(_ranges(x)):
        along = torch.arange(start, start + size, device=x.device) * strides[d]
        index = index.unsqueeze(-1) + along
    # In int32 they are the positions in the first page, which have their keys in common.
    return random_bits(seed, index.to(torch.int32) if x.numel() <= 2**32 else index)


def _memory(x: Any) -> Tensor:
    """As ``x`` lies in memory in one piece, without values."""
    return torch.empty_like(torch.empty_strided(x.shape, x.stride(), device="meta"))


def _ranges(x: Any) -> list[list[int]]:
    """Start and length of this rank's part in each dimension."""
    from torch.distributed.tensor import Shard

    mesh, ranges = x.device_mesh, [[0, size] for size in x.shape]
    for number, placement in enumerate(x.placements):
        if isinstance(placement, Shard) and type(placement) is Shard:
            start, size = ranges[placement.dim]
            chunk = -(-size // mesh.size(number))
            before = min(size, chunk * mesh.get_coordinate()[number])
            ranges[placement.dim] = [start + before, min(chunk, size - before)]
        elif not placement.is_replicate() and not placement.is_partial():
            raise TypeError(f"a DTensor must be placed by Shard, Replicate or Partial, got {placement}")
    return ranges


def _agree(seed: Tensor, mesh: Any) -> None:
    if torch.compiler.is_compiling() or mesh in _agreed:
        return
    for d in range(mesh.ndim):
        seeds = [torch.empty_like(seed) for _ in range(mesh.size(d))]
        dist.all_gather(seeds, seed.contiguous(), group=mesh.get_group(d))
        if any(bool(other != seed) for other in seeds):
            raise RuntimeError(
                "the ranks of a device mesh must draw the same seeds, for their parts to be those of one tensor, got "
                f"{[int(other) for other in seeds]}: torch.manual_seed with the same number on all of them"
            )
    _agreed.add(mesh)
