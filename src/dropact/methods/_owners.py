"""What a residual branch uses: its parameters, and who waits for other ranks in it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn


def parameters_of(owners: Iterable[object]) -> Iterable[Tensor]:
    """The parameters of modules, and those named themselves. Not what a FullyShardedDataParallel among them holds: of
    another shape whenever one looks, it takes the gradients of its own calls alone."""
    (wrapper,) = _loaded("torch.distributed.fsdp", "FullyShardedDataParallel") or (None,)
    (flat,) = _loaded("torch.distributed.fsdp._flat_param", "FlatParameter") or (None,)
    found: dict[int, Tensor] = {}
    for owner in _parts(owners, () if wrapper is None else (wrapper,)):
        if isinstance(owner, Tensor):
            found[id(owner)] = owner
        elif flat is not None:  # of a wrapper around the block, whose parameters are views of one
            views = (value for value in vars(owner).values() if isinstance(value, Tensor))
            found |= {id(view): view for view in views if isinstance(view._base, flat)}
    return found.values()


def waits_for_ranks(owners: Iterable[object]) -> tuple[str, bool] | None:
    """What in a branch communicates with other ranks whenever it is called, in words, and whether these have to agree
    about the rows too. Only what torch has a class for is seen."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    sharded = _loaded("torch.distributed.fsdp", "FSDPModule", "FullyShardedDataParallel")
    (dtensor,) = _loaded("torch.distributed.tensor", "DTensor") or (None,)
    found = None
    for part in _parts(owners, sharded):
        if isinstance(part, sharded):
            found = f"the fully sharded {type(part).__name__}", False
        elif isinstance(part, nn.SyncBatchNorm) and part.training:
            found = "the SyncBatchNorm", False
        elif dtensor is not None and isinstance(part, dtensor):
            return f"the DTensor parameter of shape {tuple(part.shape)}", True
    return found


def _loaded(name: str, *classes: str) -> tuple[Any, ...]:
    """Classes of a module, which takes a second to import: before it was, nobody uses them."""
    module = sys.modules.get(name)
    return tuple(getattr(module, each) for each in classes) if module is not None else ()


def _parts(owners: Iterable[object], closed: tuple[Any, ...]) -> Iterator[nn.Module | Tensor]:
    """The modules and parameters in the owners; of the closed classes not what they hold."""
    left = list(owners)
    while left:
        owner = left.pop()
        if isinstance(owner, nn.Module | Tensor):
            yield owner
        if isinstance(owner, nn.Module) and not isinstance(owner, closed):
            left += owner._modules.values()
            left += owner._parameters.values()
