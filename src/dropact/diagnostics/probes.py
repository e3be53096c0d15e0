"""What can be measured at a layer or at the output, in training and in evaluation mode on the same batch.

A probe names its sites, reduces what it sees there to small tensors at once, so that no activations are kept, and
combines the two passes into numbers. Nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from dropact._elementwise import apply
from dropact.diagnostics._passes import method_layers, named_modules
from dropact.methods import DropActivation

Values = Mapping[str, Tensor]  # name -> 0-d tensor


class Probe(Protocol):
    """One measurement; ``both_modes`` says whether it needs a pass in evaluation mode as well."""

    @property
    def both_modes(self) -> bool: ...

    def sites(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The modules to look at; the model itself is called ""."""

    def observe(self, module: nn.Module, x: Tensor | None, y: Tensor) -> Any:
        """What is kept of one call with input ``x`` (its first floating tensor) and output ``y``."""

    def combine(self, train: Any, evaluation: Any) -> Values:
        """The numbers, from what was observed in training and, where wanted, in evaluation mode.

        Where evaluation did not call the site, it is given what was observed in training with NaN in all tensors.
        """


def _over_channel(x: Tensor) -> list[int]:
    """Every dimension but that of the channels, 1."""
    return [d for d in range(x.dim()) if d != 1] if x.dim() > 1 else [0]


def channel_variances(y: Tensor) -> Tensor:
    """Of each channel, over samples and positions; a number where there are no channels."""
    values = y.numel() // (y.shape[1] if y.dim() > 1 else 1)
    if values < 2:
        return torch.zeros((), device=y.device)
    if y.dim() < 2:
        return y.float().var(correction=0)
    # What BatchNorm would average: torch.var takes seven times as long on the CPU.
    statistics = torch.float64 if y.dtype == torch.float64 else torch.float32
    mean, variance = torch.zeros(2, y.shape[1], dtype=statistics, device=y.device)
    functional.batch_norm(y, mean, variance, training=True, momentum=1.0)
    return variance * ((values - 1) / values)


def _ones_where(compare: Callable[..., Tensor], a: Tensor, b: Tensor | int) -> Tensor:
    """1 where the comparison holds, else 0, in the dtype of ``a``: that vectorises on the CPU, booleans do not."""
    return compare(a, b, out=torch.empty_like(a))


def _count(ones: Tensor) -> Tensor:
    return ones.sum(dtype=torch.float32)


@dataclass(frozen=True)
class VarianceShift:
    """``variance_shift``: variance in evaluation over variance in training, as in Figure 6 of arXiv:1811.05850.

    At the output of each site, the variance over samples and positions of each channel (dimension 1), averaged over the
    channels. With BatchNorm in between, evaluation is that with running statistics.

    Args:
        modules: names of modules of the model; every layer of dropact if ``None``.
    """

    modules: tuple[str, ...] | None = None
    both_modes = True

    def sites(self, model: nn.Module) -> Mapping[str, nn.Module]:
        if self.modules is None:
            return method_layers(model)
        return named_modules(model, self.modules)

    def observe(self, module: nn.Module, x: Tensor | None, y: Tensor) -> Tensor:
        return channel_variances(y).mean()

    def combine(self, train: Tensor, evaluation: Tensor) -> Values:
        return {"variance_shift": evaluation / train}


@dataclass(frozen=True)
class DropRate:
    """``drop_rate``: the share of dropped units of a DropActivation, among those where one can tell (f(x) is not x)."""

    both_modes = False

    def sites(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {name: layer for name, layer in method_layers(model).items() if isinstance(layer, DropActivation)}

    def observe(self, module: nn.Module, x: Tensor | None, y: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(module, DropActivation)
        assert x is not None
        tells = _ones_where(torch.ne, apply(module.activation, x), x)
        return _count(tells * _ones_where(torch.eq, y, x)), _count(tells)

    def combine(self, train: tuple[Tensor, Tensor], evaluation: None) -> Values:
        dropped, seen = train
        return {"drop_rate": dropped / seen}


@dataclass(frozen=True)
class NegativeSide:
    """What arrives below zero at a layer of dropact, and what becomes of it in training.

    ``negative_share``: the share of inputs below 0. ``dead_units``: the share of channels (dimension 1) with no input
    above 0 in the batch; plain ReLU would pass nothing of them. ``effective_slope``: the sum of the outputs over the
    sum of the inputs, where they are below 0; for Drop-Activation of ReLU about drop_prob, for RReLU about the mean
    slope.
    """

    both_modes = False

    def sites(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return method_layers(model)

    def observe(self, module: nn.Module, x: Tensor | None, y: Tensor) -> tuple[Tensor, ...]:
        assert x is not None
        negative = _ones_where(torch.lt, x, 0)
        dead = x.clamp(min=0).sum(_over_channel(x), dtype=torch.float32) == 0
        slope = (y * negative).sum(dtype=torch.float32) / x.clamp(max=0).sum(dtype=torch.float32)
        return _count(negative) / x.numel(), dead.float().mean(), slope

    def combine(self, train: tuple[Tensor, ...], evaluation: None) -> Values:
        return dict(zip(("negative_share", "dead_units", "effective_slope"), train, strict=True))


@dataclass(frozen=True)
class OutputGap:
    """``output_gap``: output in training minus output in evaluation, root mean square, relative to the latter's."""

    both_modes = True

    def sites(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"": model}

    def observe(self, module: nn.Module, x: Tensor | None, y: Tensor) -> Tensor:
        return y.float()

    def combine(self, train: Tensor, evaluation: Tensor) -> Values:
        return {"output_gap": (train - evaluation).norm() / evaluation.norm()}


PROBES: tuple[Probe, ...] = (VarianceShift(), DropRate(), NegativeSide(), OutputGap())


def number(value: Tensor) -> float:
    """The value as a float; waits for the device."""
    found = float(value)
    return found if math.isfinite(found) else math.nan
