"""Statistics of BatchNorm for evaluation: gathered again with the activations of evaluation.

In training, BatchNorm averages the statistics of noisy activations; in evaluation it applies them to activations
without noise, whose variance is smaller (Property 5.2). Passing the training data once more, with dropact's layers as
in evaluation and BatchNorm as in training, gives it the statistics of what it will see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dropact.diagnostics._passes import evaluating, inner, only_argument, set_mode

_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class LayerStatistics:
    """One BatchNorm: running mean and variance ``(C,)`` before and after."""

    name: str
    mean_before: Tensor
    mean_after: Tensor
    variance_before: Tensor
    variance_after: Tensor

    @property
    def variance_ratio(self) -> float:
        """Mean over the channels of the variance after, over that before."""
        return float(self.variance_after.double().mean() / self.variance_before.double().mean())


@dataclass(frozen=True)
class Recalibration:
    """What was changed, layer by layer; what ``evaluate`` said of the model before and after; and the way back."""

    layers: tuple[LayerStatistics, ...]
    before: Any
    after: Any
    _held: Mapping[nn.Module, Mapping[str, Tensor]]

    def undo(self) -> None:
        """Puts the former statistics back."""
        _restore(self._held)


def recalibrate_batchnorm_(
    model: nn.Module, batches: Iterable[Any], evaluate: Callable[[nn.Module], Any] | None = None
) -> Recalibration:
    """Replace the running statistics of every BatchNorm by those of the test-time network on ``batches``, in place.

    >>> import dropact
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 16), dropact.DropActivation(0.4), nn.Linear(16, 8), nn.BatchNorm1d(8))
    >>> batches = [torch.randn(256, 4) for _ in range(50)]
    >>> for batch in batches:
    ...     _ = model(batch)                                       # training: statistics of the noisy network
    >>> recalibration = recalibrate_batchnorm_(model, batches)
    >>> round(recalibration.layers[0].variance_ratio, 1)           # equation 15 says .81 for independent units
    0.8

    The statistics of the batches are averaged with equal weights, the variance unbiased, as BatchNorm's own. Everything
    but them stays as it was.

    Args:
        model: any module.
        batches: what the model takes, one argument each (of a tuple or list, the first): best the training data.
        evaluate: called with the model, in evaluation mode, before and after, such as its validation error.

    Returns:
        A :class:`Recalibration`: the statistics before and after, the two evaluations, and ``undo()``. A BatchNorm that
        evaluation does not reach, such as that of an auxiliary head, keeps its statistics and is not among its layers.

    Raises:
        ValueError: no BatchNorm with running statistics in the model or reached in evaluation, or no batches; the model
            is as it was.
    """
    target = inner(model)
    norms = _batchnorms(target)
    if not norms:
        raise ValueError("the model has no BatchNorm with running statistics: there is nothing to recalibrate")
    held = {norm: {name: getattr(norm, name).clone() for name in _STATISTICS} for norm in norms.values()}
    momenta = {norm: norm.momentum for norm in norms.values()}
    with torch.no_grad(), evaluating(target):
        before = None if evaluate is None else evaluate(model)
        set_mode(target, False)
        seen = 0
        try:
            for norm in norms.values():
                norm.training, norm.momentum = True, None  # None: the plain average
                norm.reset_running_stats()
            for batch in batches:
                model(only_argument(batch))
                seen += 1
        except BaseException:
            _restore(held)
            raise
        finally:
            for norm, momentum in momenta.items():
                norm.momentum = momentum
        _restore({norm: held.pop(norm) for norm in norms.values() if not norm.num_batches_tracked})
        if not seen:
            raise ValueError("batches must hold at least one batch, got none")
        if not held:
            raise ValueError(f"no BatchNorm is reached in evaluation, of these: {', '.join(norms)}")
        set_mode(target, False)
        after = None if evaluate is None else evaluate(model)
    layers = tuple(
        LayerStatistics(
            name,
            held[norm]["running_mean"],
            norm.running_mean.clone(),
            held[norm]["running_var"],
            norm.running_var.clone(),
        )
        for name, norm in norms.items()
        if norm in held
    )
    return Recalibration(layers, before, after, held)


def has_batchnorm(model: nn.Module) -> bool:
    """Whether there is a BatchNorm with running statistics."""
    return bool(_batchnorms(model))


def _batchnorms(model: nn.Module) -> dict[str, Any]:
    named = model.named_modules()
    return {name: m for name, m in named if isinstance(m, _BATCHNORMS) and m.running_mean is not None}


def _restore(held: Mapping[nn.Module, Mapping[str, Tensor]]) -> None:
    for norm, statistics in held.items():
        for name, value in statistics.items():
            getattr(norm, name).copy_(value)
