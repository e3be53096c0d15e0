"""Everything dropact can say about one model on one batch: its layers, what is left to convert, and what to do."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dropact.diagnostics._noise import noise_of, predicted_shift
from dropact.diagnostics._passes import inner, method_layers, require_method_layers
from dropact.diagnostics.batchnorm import has_batchnorm, recalibrate_batchnorm_
from dropact.diagnostics.probes import PROBES, Values, VarianceShift, channel_variances
from dropact.diagnostics.recommendations import LayerReport, recommendations
from dropact.diagnostics.recording import measure
from dropact.surgery import Coverage, coverage


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        layers: the layers of dropact, in the order in which they were called.
        coverage: every call of an activation, converted or not, as of :func:`dropact.coverage`.
        output_gap: see :class:`dropact.diagnostics.OutputGap`.
        before, after: what ``evaluate`` said before and after BatchNorm was recalibrated (on a copy), or None.
        recommendations: what to do, in sentences.
    """

    layers: Sequence[LayerReport]
    coverage: Coverage
    output_gap: float
    before: float | None
    after: float | None
    recommendations: Sequence[str]


@dataclass(frozen=True)
class _Alone:
    """``alone``: the shift a layer makes of its own inputs, its noise being known in law."""

    both_modes = False

    def sites(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return method_layers(model)

    def observe(self, module: nn.Module, x: Tensor | None, y: Tensor) -> Tensor:
        assert x is not None
        try:
            noise = noise_of(module, x)
        except TypeError:  # a method whose noise has no such form
            return torch.tensor(math.nan)
        training, module.training = module.training, False
        try:
            test = channel_variances(module.forward(x.clone())).mean()
        finally:
            module.training = training
        return test / (test + noise.variance * noise.effect.float().square().mean())

    def combine(self, train: Tensor, evaluation: None) -> Values:
        return {"alone": train}


def inspect(
    model: nn.Module,
    x: Any,
    batches: Iterable[Any] = (),
    evaluate: Callable[[nn.Module], float] | None = None,
    shown: str = "error {:.4g}",
) -> Inspection:
    """Look at a model on one batch.

    >>> import dropact, torch
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(8, 64), dropact.DropActivation(0.05), nn.Linear(64, 3), nn.ReLU())
    >>> found = inspect(model, torch.randn(512, 8))
    >>> found.coverage.complete, round(found.layers[0].predicted, 4)
    (False, 0.9377)
    >>> print(found.recommendations[0])
    Convert the rest, in one call of dropact.convert_: 1 activation is as it was (3).

    Args:
        model: any module with layers of dropact; it is left as it was.
        x: one batch, its one argument, best of some hundred training samples.
        batches: training data with which BatchNorm is recalibrated on a copy; not tried without.
        evaluate: called with the model before and with the copy after, such as its validation error.
        shown: how that number is shown, with its unit.

    Raises:
        ValueError: a model without activations of dropact.
    """
    model = inner(model)
    layers = require_method_layers(model, "to inspect")
    readings = {reading.site: dict(reading.values) for reading in measure(model, x, probes=(*PROBES, _Alone()))}
    gap = readings.pop("")["output_gap"]
    before = after = None
    recalibrated: dict[str, float] = {}
    batches = list(batches)
    if batches and has_batchnorm(model):
        twin = copy.deepcopy(model)
        recalibration = recalibrate_batchnorm_(twin, batches, evaluate)
        before, after = recalibration.before, recalibration.after
        shifts = measure(twin, x, probes=[VarianceShift()])
        recalibrated = {reading.site: reading.values["variance_shift"] for reading in shifts}
    reports = [
        _report(site, layers[site.partition(":")[0]], values, recalibrated.get(site))
        for site, values in readings.items()
    ]
    found = coverage(model, x)
    past = [name for name, layer in layers.items() if _past_the_worst(layer)]
    said = None if before is None or after is None else (shown.format(before), shown.format(after))
    return Inspection(reports, found, gap, before, after, recommendations(reports, found, past, said))


def _report(site: str, layer: nn.Module, values: dict[str, float], recalibrated: float | None) -> LayerReport:
    return LayerReport(
        name=site,
        method=" ".join(repr(layer).split()),
        predicted=predicted_shift(layer),
        alone=values.pop("alone"),
        measured=values.pop("variance_shift"),
        recalibrated=recalibrated,
        values=values,
    )


def _past_the_worst(layer: nn.Module) -> bool:
    """Whether a lower drop_prob shifts the variance as much: the shift grows again from there on."""
    drop_prob = getattr(layer, "drop_prob", None)
    return drop_prob is not None and predicted_shift(layer, 0.999 * drop_prob) < predicted_shift(layer)
