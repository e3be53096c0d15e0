"""The addition of a residual branch, as a layer: what stochastic depth is in a block whose code is somebody else's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from dropact._arguments import check_input
from dropact.methods._rate import LayerWithRate
from dropact.methods._residual import (
    Branch,
    How,
    add_dropped,
    add_masked,
    add_mean,
    check_rate,
    draw_mask,
    times,
)
from dropact.methods._shared import SharedSeeds
from dropact.methods._tracing import leaf

_UNITS = 10**9  # compiled code takes an integer of a module for a constant, a float for a symbol once it has changed


class ResidualSum(LayerWithRate):
    """The addition of a residual branch to its shortcut, which may leave the branch out.

    >>> import torch
    >>> add, x = ResidualSum(drop_prob=0.25).eval(), torch.ones(2)
    >>> add(x, lambda x: 10 * x, (x,))
    tensor([8.5000, 8.5000])

    What stands in a :class:`StochasticDepth`, and what ``dropact.add_stochastic_depth_`` puts into a block of somebody
    else's. Settings are those of ``StochasticDepth``.
    """

    _how: How

    def __init__(
        self,
        drop_prob: float = 0.5,
        mode: str = "batch",
        scaling: str = "test",
        compute: str = "skip",
        *,
        residual_scale: float = 1.0,
        shared: int | None = None,
    ) -> None:
        self.__dict__["_how"] = How(mode, scaling, compute, residual_scale)  # a rate is checked with it
        super().__init__(drop_prob)
        self._write(self._drop_prob)
        if shared is not None and compute == "masked":
            raise ValueError(
                f"shared={shared!r} needs compute='skip', got compute='masked': shared decisions are counted in "
                "Python, where neither compiled code nor a CUDA graph would count"
            )
        self.shared = None if shared is None else SharedSeeds(shared)

    def _checked(self, value: float) -> float:
        return float(check_rate(value, self._how.scaling))

    def forward(
        self,
        shortcut: Tensor,
        branch: Branch,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        owners: Iterable[object] = (),
    ) -> Tensor:
        """``shortcut + b s branch(*args, **kwargs)``.

        Args:
            owners: the modules and parameters that the branch uses, which get gradients of 0 where it is not computed.

        Raises:
            RuntimeError: an owner waits for other ranks, which decide for themselves.
        """
        how, kwargs = self._how, kwargs or {}
        if isinstance(shortcut, torch.fx.Proxy):
            return leaf(self, shortcut, branch(*args, **kwargs))
        check_input(shortcut, "ResidualSum")
        if isinstance(branch, Tensor):  # in such a graph, where what comes out of the branch is there already
            y = branch
            if not self.training:
                return add_mean(shortcut, y, self.rate(), how)
            rate = self._training_rate(shortcut.device)
            return add_masked(shortcut, y, draw_mask(shortcut, rate, how, None), rate, how)
        if not self.training:
            return add_mean(shortcut, branch(*args, **kwargs), self.rate(), how)
        rate = self._training_rate(shortcut.device)
        return add_dropped(shortcut, branch, args, kwargs, rate, how, owners, self.shared)

    def _training_rate(self, device: torch.device) -> float | Tensor:
        if self._how.mode == "subset":  # whose shapes depend on it
            return 1 - self._survival / _UNITS if torch.compiler.is_compiling() else self.drop_prob
        return self.rate_on(device) if self._how.compute == "masked" else self.rate()

    def _write(self, value: float) -> None:
        super()._write(value)
        self._survival = round((1 - value) * _UNITS)

    def folded(self) -> FixedSum:
        """A layer with this layer's evaluation output, in either mode."""
        return FixedSum(float(self._how.evaluation_factor(self.drop_prob)))

    def extra_repr(self) -> str:
        how = self._how
        parts = [f"drop_prob={self.drop_prob:g}", f"mode={how.mode}", f"scaling={how.scaling}"]
        parts += ["compute=masked"] * (how.compute == "masked")
        parts += [f"residual_scale={how.residual_scale:g}"] * (how.residual_scale != 1)
        return ", ".join(parts + ([f"shared={self.shared.base}"] if self.shared else []))


class FixedSum(nn.Module):
    """What is left of a :class:`ResidualSum` in evaluation: the shortcut and ``factor`` times the branch.

    >>> import torch
    >>> FixedSum(0.75)(torch.ones(2), lambda x: 10 * x, (torch.ones(2),))
    tensor([8.5000, 8.5000])
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(
        self,
        shortcut: Tensor,
        branch: Branch,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        owners: Iterable[object] = (),
    ) -> Tensor:
        return shortcut + times(branch(*args, **(kwargs or {})), self.factor)

    def extra_repr(self) -> str:
        return f"factor={self.factor:g}"
