"""The layers of `fuse_`, and torch's own of each."""

from __future__ import annotations

from torch import nn

from dropact.surgery._batch_norm import BATCH_NORMS
from dropact.surgery._convolution import FusedConv2d, fits

_FUSED: dict[type[nn.Module], type[nn.Module]] = {**BATCH_NORMS, nn.Conv2d: FusedConv2d}
_STOCK = {fused: stock for stock, fused in _FUSED.items()}


def fused_class(module: nn.Module) -> type[nn.Module] | None:
    """The class that ``module`` is to have, ``None`` where it keeps its own."""
    if type(module) is nn.Conv2d and not fits(module):
        return None
    return _FUSED.get(type(module))


def stock_class(module: nn.Module) -> type[nn.Module] | None:
    """torch's class of a fused layer, ``None`` for any other module."""
    return _STOCK.get(type(module))
